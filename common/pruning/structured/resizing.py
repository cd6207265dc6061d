"""A smaller model: what can be taken out of a pruned one, and how a plain model takes what is left."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.pruning.structured.channels import Channels, columns, roots
from lotteryfl.common.pruning.structured.following import follow


@dataclass(frozen=True)
class Smaller:
    """What is left of a model."""

    tensors: dict[str, Tensor]
    """Its state dict."""
    rows: int
    """How many rows and filters were taken out."""
    before: int
    """How many values the state dict had."""

    def described(self) -> str:
        """Say what was taken out."""
        after = sum(tensor.numel() for tensor in self.tensors.values())
        return f"{self.rows:,} rows fewer: {after:,} of {self.before:,} values"


def smaller(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Smaller:
    """Return the state dict of a model without the rows that it can do without, and the columns that read them.

    A row or filter goes where its output is the same for every input, since its weights are 0, or since nothing that is
    left reads it. What it always gave is in the biases of those that read it then; a convolution that pads, and a layer
    without a bias, can do without it only where that is 0. What is added to another channel goes if both can.

    Args:
        model: plain, in eval mode, on the CPU; it stays as it is.
        args: an example of what it gets.
        kwargs: the same by name.

    Raises:
        LotteryFLError: the model cannot be followed, or there is nothing to take out.
    """
    tensors = dict(model.state_dict())
    found = roots(follow(model, args, kwargs))
    while sum(each.drop(tensors) for each in found):
        pass  # what goes may have been the last to read something
    gone = [each for each in found if not each.kept.all()]
    if not gone:
        raise LotteryFLError("no row or filter can be taken out: each gives something that the model computes with")
    for each in gone:
        _take_columns(tensors, each)
    for each in gone:
        for name in each.rows:
            tensors[name] = tensors[name][each.kept]
    weights = [name for each in gone for name in each.rows if tensors[name].dim() > 1]
    rows = sum(len(model.get_parameter(name)) - len(tensors[name]) for name in weights)
    before = sum(tensor.numel() for tensor in model.state_dict().values())
    return Smaller({name: tensor.detach().clone() for name, tensor in tensors.items()}, rows, before)


def load_structured(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load the state dict of a smaller model, as `lotteryfl export --structured` writes one, into a plain model.

    Args:
        model: of the architecture that was trained; its layers get the sizes of the tensors, in place.
        tensors: by name, as `safetensors.torch.load_file` gives them.

    Raises:
        ValueError: a tensor has other dimensions than the model's, or more of one.
        RuntimeError: names are missing or unexpected, as `load_state_dict` says it.
    """
    for path, module in model.named_modules():
        held: dict[str, Tensor | None] = {**module._parameters, **module._buffers}
        for key, tensor in held.items():
            given = tensors.get(f"{path}.{key}" if path else key)
            if tensor is not None and given is not None and given.shape != tensor.shape:
                _check_smaller(f"{path}.{key}", given, tensor)
                new = torch.empty_like(tensor[tuple(map(slice, given.shape))])
                setattr(module, key, nn.Parameter(new, tensor.requires_grad) if key in module._parameters else new)
        _set_sizes(module)
    model.load_state_dict(tensors)


def _take_columns(tensors: dict[str, Tensor], channels: Channels) -> None:
    """Take what reads the channels that go out of the layers that do; what they always gave is added to the biases."""
    kept = channels.kept
    for reading in channels.readings:
        weight = tensors[reading.weight]
        read = columns(weight, len(kept))
        if reading.bias:
            given = torch.where(reading.constant, reading.values, 0).double()[~kept, None]
            added = (read[:, ~kept].double() * given).sum(dim=(1, 2))
            bias = tensors[reading.bias]
            tensors[reading.bias] = (bias.double() + added).to(bias.dtype)
        left = weight.shape[1] * int(kept.sum()) // len(kept)
        tensors[reading.weight] = read[:, kept].reshape(len(weight), left, *weight.shape[2:])


def _check_smaller(name: str, given: Tensor, tensor: Tensor) -> None:
    if given.dim() != tensor.dim() or any(new > old for new, old in zip(given.shape, tensor.shape, strict=True)):
        raise ValueError(f"{name!r} has shape {list(given.shape)}, expected at most {list(tensor.shape)}")


def _set_sizes(module: nn.Module) -> None:
    """Say of a layer what sizes its tensors have."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        module.out_channels, module.in_channels = module.weight.shape[0], module.weight.shape[1] * module.groups
    elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
        module.num_features = len(module.running_mean)
