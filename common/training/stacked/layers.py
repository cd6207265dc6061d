"""Layers that a stacked training computes in a way of its own: those that pay, and those that `vmap` mixes up."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

_GROUPED = 4096
"""Values that go into a row's convolution up to which all rows are one grouped convolution on the CPU: it has less to
call, but a slower kernel."""

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class Drawing:
    """What dropout draws in each row: from its own generator, as a training of that row alone does."""

    def __init__(self, generators: Sequence[torch.Generator | None], device: torch.device) -> None:
        """Begin.

        Args:
            generators: of each row; of one that is missing there is none.
            device: the rows'.
        """
        self._generators = generators
        self._device = device
        self.sizes: Sequence[int] = [0] * len(generators)
        """How many examples each row's batch has now; those beyond are not counted, and nothing is drawn for them."""

    def noise(self, values: Tensor, share: float, *, maps: bool) -> Tensor:
        """Return factors, 0 or 1 / (1 - share), that go with values (rows, examples, …), or with whole maps of them."""
        shape = (*values.shape[:3], *(1 for _ in values.shape[3:])) if maps else values.shape
        noise = torch.zeros(shape, dtype=values.dtype, device=self._device)
        for row, (size, generator) in enumerate(zip(self.sizes, self._generators, strict=True)):
            if size:
                noise[row, :size].bernoulli_(1 - share, generator=generator).div_(1 - share)
        return noise


def prepare_layers(model: nn.Module, drawing: Drawing, device: torch.device) -> None:
    """Let a model's layers compute for many rows under `vmap`, and from now on nowhere else.

    Args:
        model: in train mode.
        drawing: of its dropout.
        device: where it computes.
    """
    for module in model.modules():
        if (
            isinstance(module, nn.modules.dropout._DropoutNd)
            and type(module) in _DROPOUTS
            and module.training
            and 0 < module.p < 1
        ):
            _compute_by(module, partial(_Dropout.apply, drawing, module.p, type(module) is not nn.Dropout))
        elif type(module) is nn.Conv2d and module.padding_mode == "zeros" and device.type == "cpu":
            _compute_by(module, partial(_convolved, module))
        elif type(module) is nn.Linear:
            _compute_by(module, partial(_multiplied, module))
        elif type(module) is nn.Embedding and module.max_norm is None and not module.scale_grad_by_freq:
            _compute_by(module, partial(_looked_up, module))


def _compute_by(module: nn.Module, forward: Callable[[Tensor], Any]) -> None:
    module.forward = forward  # of this module alone, and not of its class


def _multiplied(module: nn.Linear, values: Tensor) -> Tensor:
    """Return the layer's outputs; from this side the weight's gradient lies as the weight does, and is not copied."""
    flat = values.reshape(-1, module.in_features).t()
    found = module.weight @ flat if module.bias is None else torch.addmm(module.bias.unsqueeze(1), module.weight, flat)
    return found.t().view(*values.shape[:-1], module.out_features)


def _looked_up(module: nn.Embedding, indices: Tensor) -> Tensor:
    """Return the layer's outputs; `vmap` alone would read another row's weights beyond a row's own, and pad in one."""
    is_none = (indices < 0) | (indices >= module.num_embeddings)
    found = F.embedding(indices.masked_fill(is_none, torch.iinfo(indices.dtype).max // 2), module.weight)
    if module.padding_idx is None:
        return found
    return torch.where((indices == module.padding_idx).unsqueeze(-1), found.detach(), found)


def _convolved(module: nn.Conv2d, maps: Tensor) -> Any:
    settings = module.stride, module.padding, module.dilation, module.groups
    return _Convolution.apply(settings, maps, module.weight, module.bias)  # type: ignore[no-untyped-call]


class _Convolution(torch.autograd.Function):
    """Under `vmap` a convolution for each row, or one grouped one, by operations that have their own gradients."""

    @staticmethod
    def forward(settings: tuple[Any, ...], maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve what belongs to one row."""
        return F.conv2d(maps, weight, bias, *settings)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: who goes back goes through what `vmap` does."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, settings: tuple[Any, ...], *tensors: Tensor | None) -> tuple[Tensor, int]:
        """Convolve all rows."""
        maps, weight, bias = map(partial(_rows_first, info.batch_size), tensors, in_dims[1:])
        if maps[0].numel() > _GROUPED:
            biases = [None] * len(maps) if bias is None else list(bias)
            return torch.stack([F.conv2d(*each, *settings) for each in zip(maps, weight, biases, strict=True)]), 0
        stride, padding, dilation, groups = settings
        side_by_side, joined = maps.transpose(0, 1).flatten(1, 2), None if bias is None else bias.flatten()
        found = F.conv2d(side_by_side, weight.flatten(0, 1), joined, stride, padding, dilation, groups * len(maps))
        return found.view(len(found), len(maps), -1, *found.shape[2:]), 1


class _Dropout(torch.autograd.Function):
    """Under `vmap` dropout of each row's own."""

    @staticmethod
    def forward(drawing: Drawing, share: float, maps: bool, values: Tensor) -> Tensor:
        """Be there: there is no dropout of one row alone."""
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing, as above."""

    @staticmethod
    def vmap(
        info: Any,  # noqa: ARG004 - as a Function has it
        in_dims: Any,
        drawing: Drawing,
        share: float,
        maps: bool,
        values: Tensor,
    ) -> tuple[Tensor, int]:
        """Drop out in all rows."""
        values = values.movedim(in_dims[3], 0)
        return values * drawing.noise(values, share, maps=maps), 0


def _rows_first(rows: int, tensor: Any, dimension: int | None) -> Any:
    """Return a tensor with the rows as its first dimension, if it is one."""
    if tensor is None:
        return None
    return tensor.expand(rows, *tensor.shape) if dimension is None else tensor.movedim(dimension, 0)
