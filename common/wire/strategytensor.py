"""Tensors of a strategy's own: what it declares, and the rows of the tensor table that this comes to.

As rows they are bounded, checked, sent, stored, resumed, verified and counted as the model's tensors are. `shared`
ones are a part of every model file, go down with the model and are put together from what comes back. An `own` one
comes back with a client's result and goes down with its next work. What only goes `up` comes back where `Plan.sends`
names it, and what all came to is seen by the coordinator's hooks alone.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lotteryfl.common.wire.table import Combine, TensorSpec, TensorTable

_ROLES = ("shared", "own", "up")
_LIKES = ("", "prunable", "parameters")
_COMBINES = ("mean", "sum", "kept", "none")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class StrategyTensor:
    """A tensor of a strategy's own, or one for each of some of the model's."""

    name: str
    """"control"; with `like`, its rows are "control:conv1.weight" and so on."""
    role: Literal["shared", "own", "up"]
    shape: tuple[int, ...] = ()
    like: Literal["", "prunable", "parameters"] = ""
    """One for each of these tensors of the model that go with every round, of its shape; of the prunable ones, also for
    those that the strategy keeps fixed."""
    dtype: torch.dtype = torch.float32
    """Of floating point; or bool, which travels as packed bits, of what is not shared."""
    combine: Literal["mean", "sum", "kept", "none"] = "mean"
    """What clients send of it is averaged as results are; added up; or of each element averaged over the clients whose
    mask keeps the weight that it is like. Of own ones nothing is put together. A shared one of none never comes back:
    `Strategy.after_round` alone changes it."""
    masked: bool = False
    """It travels under the mask of the weight that it is like, as kept values, and is 0 off it."""
    fill: float = 0.0
    """What all its values are before the first round; of one that only goes up, whenever work begins."""
    by_row: bool = False
    """With `like`, it has one value for each row, as of a unit or filter, and not the tensor's shape."""


def with_tensors(table: TensorTable, declared: Iterable[StrategyTensor]) -> TensorTable:
    """Return a model's table with the rows of its strategy's own tensors.

    Args:
        table: of the whole model.
        declared: by the strategy.

    Raises:
        ValueError: one cannot be, or its name is another's.
    """
    rows = [row for tensor in declared for row in _rows(table, tensor)]
    if not rows:
        return table
    whole = TensorTable((*table.in_model, *rows))
    whole.check_likes()
    return whole


def filled(specs: Iterable[TensorSpec], device: torch.device | None = None) -> dict[str, Tensor]:
    """Return by name what a strategy's tensors are before the first round; each is new.

    Args:
        specs: of its tensors.
        device: where they are to be; None: on the CPU.
    """
    return {spec.name: torch.full(spec.shape, spec.fill, dtype=spec.dtype, device=device) for spec in specs}


def _rows(table: TensorTable, tensor: StrategyTensor) -> Sequence[TensorSpec]:
    if not isinstance(tensor, StrategyTensor):
        raise ValueError(f"{tensor!r}: expected a StrategyTensor")
    what = f"{tensor.name!r}"
    for key, of in (("role", _ROLES), ("like", _LIKES), ("combine", _COMBINES)):
        if (value := getattr(tensor, key)) not in of:
            raise ValueError(f"{what}: {key} = {value!r}, expected one of {', '.join(map(repr, of))}")
    if not isinstance(tensor.dtype, torch.dtype):
        raise ValueError(f"{what}: dtype = {tensor.dtype!r}, expected one of torch's, as torch.float32")
    if not _NAME.fullmatch(tensor.name):
        raise ValueError(f"{what}: expected a name of up to 64 letters, digits, _, . and -")
    _check_like(tensor, what)
    if not tensor.like:
        return [_row(tensor, tensor.name, tensor.shape)]
    twins = [spec for spec in table if (spec.prunable if tensor.like == "prunable" else spec.role == "parameter")]
    if not twins:
        raise ValueError(f"{what}: is like {tensor.like!r}, and the model has none")
    if tensor.by_row:
        return [_row(tensor, f"{tensor.name}:{twin.name}", twin.shape[:1]) for twin in twins]
    return [_row(tensor, f"{tensor.name}:{twin.name}", twin.shape, twin) for twin in twins]


def _check_like(tensor: StrategyTensor, what: str) -> None:
    if (not tensor.like or tensor.by_row) and (tensor.combine == "kept" or tensor.masked):
        raise ValueError(f"{what}: combine = 'kept' or masked, expected what is like the model's weights")
    if tensor.by_row and not tensor.like:
        raise ValueError(f"{what}: by_row, expected what is like the model's weights")
    if tensor.like and tensor.shape:
        raise ValueError(f"{what}: shape {list(tensor.shape)}, expected none where it is like {tensor.like!r}")


def _row(tensor: StrategyTensor, name: str, shape: tuple[int, ...], twin: TensorSpec | None = None) -> TensorSpec:
    combine: Combine = "" if tensor.role == "own" else tensor.combine
    return TensorSpec(
        name=name,
        dtype=tensor.dtype,
        shape=tuple(shape),
        role=tensor.role,
        prunable=False,
        combine=combine,
        like=twin.name if twin else "",
        masked=tensor.masked and twin is not None and twin.prunable,
        fill=tensor.fill,
    )
