"""Lossless coding of what travels: does it pay? Encode, send, decode, one after the other, against sending it plain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import nn
from zstandard import ZstdCompressor, ZstdDecompressor

from benchmarks.harness import Row, Spread, constant, interleaved, seconds, share, times_less
from benchmarks.inputs import MODELS
from lotteryfl.common import packedmasks
from lotteryfl.common.models.mlp import mlp
from lotteryfl.common.pruning.parameters import copy_model, named_masks, named_tensors
from lotteryfl.common.pruning.prune import get_prune_params, prune_fixed_amount
from lotteryfl.common.training.loop import train

Bytes = npt.NDArray[np.uint8]

GIGABIT = 1e9 / 8
"""Bytes a second of a link of 1 Gbit/s."""

ESCAPE = 255


@dataclass(frozen=True)
class Sizes:
    """How large the model is whose values are coded, how long it is trained, and how often it is all done."""

    hidden: tuple[int, ...]
    epochs: int
    repeats: int


FULL = Sizes(hidden=(1024, 1024), epochs=4, repeats=5)
QUICK = Sizes(hidden=(128,), epochs=1, repeats=1)


@dataclass(frozen=True)
class Case:
    """What is sent, and how it is coded."""

    name: str
    plain: Bytes
    items: int
    """Weights that a mask is over, or values."""
    encode: Callable[[Bytes], bytes]
    decode: Callable[[bytes], Bytes]


def rows(sizes: Sizes) -> list[Row]:
    """Whole masks, a part of a mask, values of two dtypes; zstd 3 is left out: slower than 1, and hardly smaller."""
    torch.set_num_threads(1)
    cases = (*_mask_cases(), *_value_cases(sizes))
    return [row for case in cases for row in _rows(case, sizes.repeats)]


def _rows(case: Case, repeats: int) -> list[Row]:
    coded = case.encode(case.plain)
    if not np.array_equal(case.decode(coded), case.plain):
        raise AssertionError(f"{case.name}: what comes back is not what was sent")
    times = interleaved(
        repeats, encode=seconds(partial(case.encode, case.plain)), decode=seconds(partial(case.decode, coded))
    )
    codec = [encode + decode for encode, decode in zip(times["encode"].values, times["decode"].values, strict=True)]
    sent, plain = constant(8 * len(coded) / case.items), constant(8 * case.plain.nbytes / case.items)
    time = Spread(tuple(1000 * (taken + len(coded) / GIGABIT) for taken in codec))
    # As fast a link sends the bytes saved in the time that coding takes; on a faster one it is in the way.
    limit = Spread(tuple(max(0.0, case.plain.nbytes - len(coded)) / taken / GIGABIT for taken in codec))
    return [
        share(f"{case.name}: size", sent, plain, "plain", "bit each"),
        times_less(
            f"{case.name}: time on a link", time, constant(1000 * case.plain.nbytes / GIGABIT), "plain, 1 Gbit/s", "ms"
        ),
        share(f"{case.name}: pays on links up to", limit, constant(1), "a usual link", "Gbit/s"),
    ]


def _mask_cases() -> list[Case]:
    """Masks of 11 M, by global pruning of normal weights: every layer has a density of its own."""
    torch.manual_seed(0)
    dense = MODELS["11 M"]()
    weights, total = get_prune_params(dense)
    with torch.no_grad():
        for module, name in weights:
            getattr(module, name).normal_(std=float(getattr(module, name).std()))
    found = []
    for density in (0.5, 0.2, 0.1, 0.05):
        model = copy_model(dense)
        prune_fixed_amount(model, 1 - density, verbose=False)
        before = _packed(model)
        plain = np.concatenate(list(before.values()))
        found.append(Case(f"mask at density {density}, zstd", plain, total, _zstd, _unzstd))
        if density <= 0.1:
            gaps = partial(_from_gaps, size=plain.size)
            found.append(Case(f"mask at density {density}, zstd of gaps", plain, total, _to_gaps, gaps))
    prune_fixed_amount(model, 0.2, verbose=False)
    update = np.concatenate([packedmasks.encode_subset(bits, before[name]) for name, bits in _packed(model).items()])
    kept = sum(map(packedmasks.count, before.values()))
    return [*found, Case("mask pruned by a fifth, zstd", update, kept, _zstd, _unzstd)]


def _value_cases(sizes: Sizes) -> list[Case]:
    """Kept values of an MLP that was trained on digits, pruned to a fifth, and trained on."""
    torch.manual_seed(0)
    model, digits = mlp(sizes.hidden, 64, 10), load_digits()
    data = torch.from_numpy(digits.images).float() / 16, torch.from_numpy(digits.target).long()
    train(model, data, epochs=sizes.epochs, lr=0.1, momentum=0.9)
    prune_fixed_amount(model, 0.8, verbose=False)
    train(model, data, epochs=sizes.epochs, lr=0.1, momentum=0.9)
    tensors = named_tensors(model)
    values = torch.cat([packedmasks.gather(tensors[name], bits) for name, bits in _packed(model).items()])
    found = []
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        plain, width = values.to(dtype).view(torch.uint8).numpy(), dtype.itemsize
        planes, joined = partial(_to_planes, width=width), partial(_from_planes, width=width)
        found += [
            Case(f"{name} values, zstd", plain, len(values), _zstd, _unzstd),
            Case(f"{name} values, zstd of byte planes", plain, len(values), planes, joined),
        ]
    return found


def _packed(model: nn.Module) -> Mapping[str, packedmasks.PackedMask]:
    return {name: packedmasks.pack(mask) for name, mask in named_masks(model).items()}


def _zstd(plain: Bytes) -> bytes:
    return ZstdCompressor(level=1).compress(plain.data)


def _unzstd(coded: bytes) -> Bytes:
    return np.frombuffer(ZstdDecompressor().decompress(coded), np.uint8)


def _to_gaps(packed: Bytes) -> bytes:
    """Code how many weights are pruned before each kept one, a byte each; `ESCAPE` stands for so many and more."""
    kept = np.flatnonzero(np.unpackbits(packed, bitorder="little").view(np.bool_))
    escapes, last = np.divmod(np.diff(kept, prepend=-1) - 1, ESCAPE)
    gaps = np.full(kept.size + int(escapes.sum()), ESCAPE, np.uint8)
    gaps[np.arange(kept.size) + np.cumsum(escapes)] = last
    return _zstd(gaps)


def _from_gaps(coded: bytes, size: int) -> Bytes:
    gaps = _unzstd(coded)
    ends = gaps != ESCAPE
    bits = np.zeros(8 * size, np.uint8)
    bits[np.cumsum(gaps + ends.astype(np.intp))[ends] - 1] = 1
    return np.packbits(bits, bitorder="little")


def _to_planes(plain: Bytes, width: int) -> bytes:
    """Code the first bytes of all values, then the second ones ...: exponents beside exponents."""
    return _zstd(np.ascontiguousarray(plain.reshape(-1, width).T))


def _from_planes(coded: bytes, width: int) -> Bytes:
    return _unzstd(coded).reshape(width, -1).T.reshape(-1)
