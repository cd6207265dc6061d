"""Lossless coding of what travels: does it pay? Encode, send, decode, one after the other, against sending it plain."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from benchmarks.harness import Row, Spread, constant, interleaved, seconds, share, times_less
from benchmarks.inputs import MODELS
from benchmarks.maskcoders import BY_BITS, CODERS, Bytes, Coder, decode_each, encode_each, unzstd, zstd
from lotteryfl.common import packedmasks
from lotteryfl.common.models.mlp import mlp
from lotteryfl.common.pruning.parameters import copy_model, named_masks, named_tensors
from lotteryfl.common.pruning.prune import get_prune_params, prune_fixed_amount
from lotteryfl.common.training.loop import train

LINKS = {"1 Gbit/s": 1e9 / 8, "100 Mbit/s": 1e8 / 8}
"""Bytes a second."""


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
    plain: Sequence[Bytes]
    """In the parts that are coded one by one."""
    items: int
    """Weights that masks are over, or values."""
    encode: Callable[[Sequence[Bytes]], Sequence[bytes]]
    decode: Callable[[Sequence[bytes]], Sequence[Bytes]]

    @property
    def nbytes(self) -> int:
        """Bytes of it as it is."""
        return sum(part.nbytes for part in self.plain)


def rows(sizes: Sizes) -> list[Row]:
    """Whole masks, parts of masks, values of two dtypes; zstd 3 is left out: slower than 1, and hardly smaller.

    ANS is what `mask_coding = "ans"` does (docs/decisions/0023-coded-masks.md); Rice is by numpy.
    """
    torch.set_num_threads(1)
    cases = (*_mask_cases(), *_value_cases(sizes))
    return [row for case in cases for row in _rows(case, sizes.repeats)]


def _rows(case: Case, repeats: int) -> list[Row]:
    coded = case.encode(case.plain)
    if not all(map(np.array_equal, case.decode(coded), case.plain)):
        raise AssertionError(f"{case.name}: what comes back is not what was sent")
    times = interleaved(
        repeats, encode=seconds(partial(case.encode, case.plain)), decode=seconds(partial(case.decode, coded))
    )
    codec = [encode + decode for encode, decode in zip(times["encode"].values, times["decode"].values, strict=True)]
    size = sum(map(len, coded))
    sent, plain = constant(8 * size / case.items), constant(8 * case.nbytes / case.items)
    encode, decode = (Spread(tuple(1000 * taken for taken in times[way].values)) for way in ("encode", "decode"))
    found = [
        share(f"{case.name}: size", sent, plain, "plain", "bit each"),
        share(f"{case.name}: encoding", encode, decode, "decoding", "ms"),
    ]
    for link, speed in LINKS.items():
        time = Spread(tuple(1000 * (taken + size / speed) for taken in codec))
        alone = constant(1000 * case.nbytes / speed)
        found.append(times_less(f"{case.name}: time at {link}", time, alone, "plain", "ms"))
    return found


def _mask_cases() -> list[Case]:
    """Masks of 11 M, by global pruning of normal weights: every layer has a density of its own."""
    torch.manual_seed(0)
    dense = MODELS["11 M"]()
    weights, total = get_prune_params(dense)
    with torch.no_grad():
        for module, name in weights:
            getattr(module, name).normal_(std=float(getattr(module, name).std()))
    found = []
    for density in (0.5, 0.1, 0.05, 0.01):
        masks, coders = list(_pruned(dense, 1 - density).values()), CODERS | (BY_BITS if density == 0.1 else {})
        found += _by_every_coder(f"mask at density {density}", masks, total, coders)
    sparse = copy_model(dense)
    prune_fixed_amount(sparse, 0.9, verbose=False)
    before = _packed(sparse)
    kept = sum(map(packedmasks.count, before.values()))
    for rate in (0.1, 0.2, 0.5):
        after = _pruned(sparse, rate)
        update = [packedmasks.encode_subset(after[name], bits) for name, bits in before.items()]
        found += _by_every_coder(f"mask pruned by {rate}", update, kept, CODERS)
    return found


def _by_every_coder(name: str, masks: list[Bytes], items: int, coders: Mapping[str, Coder]) -> list[Case]:
    return [
        Case(
            f"{name}, {kind}",
            masks,
            items,
            partial(encode_each, coder=coder),
            partial(decode_each, masks=masks, coder=coder),
        )
        for kind, coder in coders.items()
    ]


def _pruned(model: nn.Module, rate: float) -> Mapping[str, packedmasks.PackedMask]:
    pruned = copy_model(model)
    prune_fixed_amount(pruned, rate, verbose=False)
    return _packed(pruned)


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
            Case(f"{name} values, zstd", [plain], len(values), _each(zstd), _each(unzstd)),
            Case(f"{name} values, zstd of byte planes", [plain], len(values), _each(planes), _each(joined)),
        ]
    return found


def _packed(model: nn.Module) -> Mapping[str, packedmasks.PackedMask]:
    return {name: packedmasks.pack(mask) for name, mask in named_masks(model).items()}


def _each(work: Callable[[Any], Any]) -> Callable[[Sequence[Any]], list[Any]]:
    return lambda parts: [work(part) for part in parts]


def _to_planes(plain: Bytes, width: int) -> bytes:
    """Code the first bytes of all values, then the second ones ...: exponents beside exponents."""
    return zstd(np.ascontiguousarray(plain.reshape(-1, width).T))


def _from_planes(coded: bytes, width: int) -> Bytes:
    return unzstd(coded).reshape(width, -1).T.reshape(-1)
