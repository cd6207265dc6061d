"""Masked tensors and masks to what travels and back; the speed is that of the dense float32 tensor, on one core."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmarks.harness import Measure, Row, at_least, interleaved, seconds, share
from lotteryfl.common import packedmasks

Work = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """What is coded, and how often."""

    numel: int
    repeats: int


FULL = Sizes(numel=11_000_000, repeats=5)
QUICK = Sizes(numel=100_000, repeats=1)


def rows(sizes: Sizes) -> list[Row]:
    """Values and masks, there and back."""
    numel, row = sizes.numel, partial(_row, sizes)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(numel, generator=generator)
    mask = torch.rand(numel, generator=generator) < 0.2
    subset = mask & (torch.rand(numel, generator=generator) < 0.8)
    packed, inner = packedmasks.pack(mask), packedmasks.pack(subset)
    kept, bits = packedmasks.gather(values, packed), packedmasks.encode_subset(inner, packed)
    out, of_subset = torch.empty(numel), subset[mask]
    index = "boolean index"
    return [
        row("gather", partial(packedmasks.gather, values, packed), partial(_index, values, mask), index, 3),
        row("scatter", partial(packedmasks.scatter, kept, packed, out), partial(_assign, out, mask, kept), index, 3),
        row("pack a mask", partial(packedmasks.pack, mask), partial(_copy, values, out), "copying the tensor"),
        row(
            "unpack a mask",
            partial(packedmasks.unpack, packed, (numel,)),
            partial(_copy, values, out),
            "copying the tensor",
        ),
        row(
            "mask as a part of the last one",
            partial(packedmasks.encode_subset, inner, packed),
            partial(_pack_index, subset, mask),
            index,
        ),
        row(
            "the same, back",
            partial(packedmasks.decode_subset, bits, packed),
            partial(_assign, mask.clone(), mask, of_subset),
            index,
        ),
    ]


def _row(sizes: Sizes, name: str, ours: Work, baseline: Work, against: str, goal: float | None = None) -> Row:
    speed = partial(_speed, 4 * sizes.numel / 1e9)
    speeds = interleaved(sizes.repeats, ours=speed(ours), baseline=speed(baseline))
    bound = None if goal is None else at_least(goal, of="ours")
    return share(f"{name}, density 0.2", speeds["ours"], speeds["baseline"], against, "GB/s", bound)


def _speed(gigabytes: float, work: Work) -> Measure:
    measure = seconds(work)
    return lambda: gigabytes / measure()


def _index(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return values[mask]


def _assign(out: torch.Tensor, mask: torch.Tensor, kept: torch.Tensor) -> None:
    out.zero_()
    out[mask] = kept


def _copy(values: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(values)


def _pack_index(subset: torch.Tensor, mask: torch.Tensor) -> object:
    return np.packbits(subset[mask].numpy(), bitorder="little")
