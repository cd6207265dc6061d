"""Low-rank adapters and a head that train on a model of transformers that does not, by peft (Hu et al. 2022, "LoRA:
Low-Rank Adaptation of Large Language Models")."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.text import quoted

_DEFAULTS: Mapping[str, Any] = {
    "r": 8,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "target_modules": ["q_proj", "v_proj"],
    "modules_to_save": ["classifier"],
}
_BASE = "adapted.base_model.model."


class AdaptedClassifier(nn.Module):
    """A model of transformers that classifies images, with adapters; its logits are what it returns.

    Images of another size are brought to the model's, bilinearly.
    """

    def __init__(self, kind: str, options: Mapping[str, Any]) -> None:
        """Build it from torch's global generator.

        Args:
            kind: of models in transformers, as "vit".
            options: of its config; and `r`, `lora_alpha`, `lora_dropout`, `target_modules` and `modules_to_save` of
                peft's LoraConfig.

        Raises:
            ImportError: peft is not installed.
            Exception: as the libraries do, where there is no such model or option.
        """
        import peft
        import transformers

        super().__init__()
        config = transformers.AutoConfig.for_model(
            kind, **{key: value for key, value in options.items() if key not in _DEFAULTS}
        )
        adapters = {key: options.get(key, value) for key, value in _DEFAULTS.items()}
        model = transformers.AutoModelForImageClassification.from_config(config)
        self.adapted = peft.get_peft_model(model, peft.LoraConfig(bias="none", **adapters))
        self._size: int = config.image_size
        self._heads = tuple(f"{each}." for each in adapters["modules_to_save"])

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (examples, classes) of images (examples, channels, height, width)."""
        if images.shape[-1] != self._size:
            images = F.interpolate(images, size=(self._size, self._size), mode="bilinear")
        logits: Tensor = self.adapted(pixel_values=images).logits
        return logits

    def pretrained(self, folder: Path) -> dict[str, Tensor]:
        """Return a value for each of its tensors, by name: of what is below the adapters those of a folder's
        `model.safetensors`, of adapters and heads its own.

        Raises:
            ValueError: the folder's values are not of such a model.
            Exception: as transformers does, where it cannot read them.
        """
        base = self.adapted.get_base_model()
        with _quietly(), torch.random.fork_rng(devices=[]):  # of its heads, which are not taken, the values are drawn
            loaded, found = type(base).from_pretrained(
                str(folder),
                config=base.config,
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        without = [*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])]
        if missing := sorted(key for key in without if not key.startswith(self._heads)):
            raise ValueError(f"does not fit the model: without {quoted(missing[0])} and {len(missing) - 1} more")
        given = {key: value for key, value in loaded.state_dict().items() if not key.startswith(self._heads)}
        return {name: given.get(_plain(name), value) for name, value in self.state_dict().items()}


def _plain(name: str) -> str:
    """Return what a tensor is called in the model without adapters."""
    return name.removeprefix(_BASE).replace(".base_layer.", ".")


@contextmanager
def _quietly() -> Iterator[None]:
    """Let transformers show neither progress nor a report of what it has not found, which is looked at here."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
