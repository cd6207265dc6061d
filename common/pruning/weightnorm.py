"""Weight norm, w = g v / ‖v‖ (Salimans and Kingma 2016), of which v can be pruned: also a whole row of it.

A row that is all zeros has no direction. torch divides 0 by 0 there; here it counts as a row of zeros, without a
gradient. Everywhere else the values are torch's own, bit for bit.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.weight_norm import WeightNorm


def is_magnitude(module: nn.Module, name: str) -> bool:
    """Say whether a module's parameter is the g of a weight norm."""
    if isinstance(module, ParametrizationList):
        return name == "original0" and isinstance(module[0], _WeightNorm)
    return any(name == f"{hook.name}_g" for hook in _hooks(module).values())


def allow_zero_rows(module: nn.Module, name: str) -> None:
    """Make a weight norm bear whole rows of zeros, if the module's parameter is the v of one."""
    if isinstance(module, ParametrizationList):
        norm = module[0]
        if name == "original1" and type(norm) is _WeightNorm:
            module[0] = _WithZeroRows(norm.dim).train(norm.training)
        return
    for key, hook in _hooks(module).items():
        if name == f"{hook.name}_v" and type(hook) is WeightNorm:
            module._forward_pre_hooks[key] = _HookWithZeroRows(hook.name, hook.dim)


def weight_of(v: Tensor, g: Tensor, dim: int) -> Tensor:
    """Return g v / ‖v‖, 0 where ‖v‖ is.

    Args:
        v: directions.
        g: magnitudes.
        dim: over all dimensions but which the norm is taken; -1: over all.
    """
    gone = torch.norm_except_dim(v.detach(), 2, dim) == 0
    return torch._weight_norm(v.masked_fill(gone, 1), g, dim).masked_fill(gone, 0)


class _WithZeroRows(_WeightNorm):
    """The parametrization."""

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        """Return the weight."""
        return weight_of(weight_v, weight_g, self.dim)


class _HookWithZeroRows(WeightNorm):
    """The hook of the older `torch.nn.utils.weight_norm`."""

    def compute_weight(self, module: nn.Module) -> Tensor:
        """Return the weight."""
        return weight_of(getattr(module, f"{self.name}_v"), getattr(module, f"{self.name}_g"), self.dim)


def _hooks(module: nn.Module) -> dict[int, WeightNorm]:
    return {key: hook for key, hook in module._forward_pre_hooks.items() if isinstance(hook, WeightNorm)}
