"""Models of timm, torchvision, transformers and peft, freshly initialised: never what somebody has trained."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from lotteryfl.common.models.groupnorm import group_norm
from lotteryfl.common.models.named import ModelName

Data = tuple[int, int, int]
"""Channels, height = width, classes: as in `common.models.IMAGES`."""


def build_from_library(name: ModelName, images: Data | None) -> nn.Module:
    """Build a model of a library from torch's global generator.

    Args:
        name: of the model; its options go before what is known of the data.
        images: what a built-in task's images are; None: the options alone say it.

    Raises:
        ImportError: the library is not installed.
        Exception: as the library does, where it has no such model or the model no such option.
    """
    builders: dict[str, Callable[[ModelName, Data | None], nn.Module]] = {
        "timm": _timm,
        "torchvision": _torchvision,
        "transformers": _transformers,
        "peft": _peft,
    }
    return builders[name.source](name, images)


def _timm(name: ModelName, images: Data | None) -> nn.Module:
    import timm

    known = {"in_chans": images[0], "num_classes": images[2]} if images else {}
    model: nn.Module = timm.create_model(name.name, pretrained=False, **{**known, **name.options})
    return model


def _torchvision(name: ModelName, images: Data | None) -> nn.Module:
    import torchvision

    if images and images[0] != 3:
        raise ValueError(f"torchvision's models take images of 3 channels, these have {images[0]}: use timm's")
    known = {"num_classes": images[2]} if images else {}
    options = _with_norm({**known, **name.options})
    model: nn.Module = torchvision.models.get_model(name.name, weights=None, **options)
    return model


def _with_norm(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with `norm_layer = "groupnorm"`, which timm reads itself, as what torchvision takes."""
    if "norm_layer" not in options:
        return dict(options)
    norms: dict[str, Callable[[int], nn.Module]] = {
        "batchnorm": nn.BatchNorm2d,
        "groupnorm": group_norm,
        "instancenorm": partial(nn.InstanceNorm2d, affine=True),
    }
    if (norm := options["norm_layer"]) not in norms:
        raise ValueError(f"norm_layer = {norm!r}: expected one of {', '.join(norms)}")
    return {**options, "norm_layer": norms[norm]}


def _transformers(name: ModelName, images: Data | None) -> nn.Module:
    import transformers

    if images:
        raise ValueError(
            "what transformers' models return is no tensor: expected a task of your own, folders or hf:NAME, with "
            "task.objective = 'hugging-face'"
        )
    whole = name.with_config()
    config = transformers.AutoConfig.for_model(whole.name, **whole.options)
    first = (config.architectures or [""])[0]
    architecture = getattr(transformers, first, None)
    if not isinstance(architecture, type) or not issubclass(architecture, transformers.PreTrainedModel):
        raise ValueError(
            f"architectures = {config.architectures!r}: expected a model of transformers, "
            'as ["BertForSequenceClassification"]'
        )
    model: nn.Module = architecture(config)
    return model


def _peft(name: ModelName, images: Data | None) -> nn.Module:
    from lotteryfl.common.models.adapted import AdaptedClassifier

    known = {"num_channels": images[0], "num_labels": images[2]} if images else {}
    return AdaptedClassifier(name.name, {**known, **name.options})
