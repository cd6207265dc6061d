"""Masked tensors and masks to what travels and back; the speed is that of the dense float32 tensor, on one core."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.harness import Measure, Row, at_least, interleaved, seconds, share
from lotteryfl.common import packedmasks

NUMEL = 11_000_000
GIGABYTES = 4 * NUMEL / 1e9

Work = Callable[[], object]


def rows() -> list[Row]:
    """Values and masks, there and back."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(NUMEL, generator=generator)
    mask = torch.rand(NUMEL, generator=generator) < 0.2
    subset = mask & (torch.rand(NUMEL, generator=generator) < 0.8)
    packed, inner = packedmasks.pack(mask), packedmasks.pack(subset)
    kept, bits = packedmasks.gather(values, packed), packedmasks.encode_subset(inner, packed)
    out, of_subset = torch.empty(NUMEL), subset[mask]
    index = "boolean index"
    return [
        _row("gather", partial(packedmasks.gather, values, packed), partial(_index, values, mask), index, 3),
        _row("scatter", partial(packedmasks.scatter, kept, packed, out), partial(_assign, out, mask, kept), index, 3),
        _row("pack a mask", partial(packedmasks.pack, mask), partial(_copy, values, out), "copying the tensor"),
        _row(
            "unpack a mask",
            partial(packedmasks.unpack, packed, (NUMEL,)),
            partial(_copy, values, out),
            "copying the tensor",
        ),
        _row(
            "mask as a part of the last one",
            partial(packedmasks.encode_subset, inner, packed),
            partial(_pack_index, subset, mask),
            index,
        ),
        _row(
            "the same, back",
            partial(packedmasks.decode_subset, bits, packed),
            partial(_assign, mask.clone(), mask, of_subset),
            index,
        ),
    ]


def _row(name: str, ours: Work, baseline: Work, against: str, goal: float | None = None) -> Row:
    speeds = interleaved(5, ours=_speed(ours), baseline=_speed(baseline))
    bound = None if goal is None else at_least(goal, of="ours")
    return share(f"{name}, density 0.2", speeds["ours"], speeds["baseline"], against, "GB/s", bound)


def _speed(work: Work) -> Measure:
    measure = seconds(work)
    return lambda: GIGABYTES / measure()


def _index(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return values[mask]


def _assign(out: torch.Tensor, mask: torch.Tensor, kept: torch.Tensor) -> None:
    out.zero_()
    out[mask] = kept


def _copy(values: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(values)


def _pack_index(subset: torch.Tensor, mask: torch.Tensor) -> object:
    return np.packbits(subset[mask].numpy(), bitorder="little")
