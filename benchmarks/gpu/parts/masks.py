"""Pruning and masks on the device: as on the CPU, beside torch's pruning, and beside doing it on the CPU."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu.machine import synchronize
from benchmarks.gpu.row import Row, check
from benchmarks.gpu.runs import Setting
from benchmarks.harness import Spread, interleaved, seconds
from benchmarks.inputs import MODELS
from benchmarks.parts.pruning import ours, torchs
from lotteryfl.common.packedmasks import PackedMask, pack, pack_all, unpack
from lotteryfl.common.pruning.parameters import copy_model, named_masks, named_tensors
from lotteryfl.common.pruning.prune import rewind
from lotteryfl.common.transfer import to_device, to_host

SECONDS = 20.0

SIZES = {"11 M": 5, "350 M": 2}
"""Models, and how often each is pruned."""
QUICK = {"20 k": 1}


def rows(setting: Setting) -> Iterator[Row]:
    """Compare bits first, then seconds."""
    device = torch.device(setting.device)
    sizes = QUICK if setting.quick else SIZES
    first = next(iter(sizes))
    yield from _checks(first, device)
    yield from _moves(first, device)
    for size, repeats in sizes.items():
        yield from _pruning(size, repeats, device)


def _model(size: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[size]()


def _checks(size: str, device: torch.device) -> Iterator[Row]:
    here = _model(size)
    initial = {name: tensor.clone() for name, tensor in named_tensors(here).items()}
    there = copy_model(here, device)
    for model in (here, there):
        ours(model)
        ours(model)
        rewind(model, initial)
    expected, found = _packed_by_cpu(named_masks(here)), pack_all(named_masks(there))
    is_same = expected.keys() == found.keys() and all(np.array_equal(found[name], expected[name]) for name in found)
    yield check(f"{size}: masks of two prunings as on the CPU, packed on the device", is_same)
    spread = {name: unpack(mask, named_masks(there)[name].shape, device) for name, mask in found.items()}
    yield check(f"{size}: masks unpacked on the device", _are_equal(spread, named_masks(there)))
    yield check(f"{size}: rewound as on the CPU", _are_equal(to_host(named_tensors(there)), named_tensors(here)))
    back = to_host(to_device(initial, device))
    yield check(f"{size}: to the device and back, the same bits", _are_equal(back, initial))


def _are_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(tensor.to(expected[name]), expected[name]) for name, tensor in found.items())


def _moves(size: str, device: torch.device) -> Iterator[Row]:
    """Time what goes to the device and comes back, together and one by one."""
    model = copy_model(_model(size), device)
    ours(model)
    masks, there = named_masks(model), named_tensors(model)
    here = to_host(there)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object], str]] = {
        "masks packed": (lambda: pack_all(masks), lambda: _packed_by_cpu(masks), "fetched and packed by the CPU"),
        "model to the device": (lambda: to_device(here, device), lambda: _one_by_one(here, device), "one by one"),
        "model from the device": (
            lambda: to_host(there),
            lambda: _one_by_one(there, torch.device("cpu")),
            "one by one",
        ),
    }
    for what, (mine, other, against) in pairs.items():
        taken = interleaved(5, ours=_timed(mine, device), other=_timed(other, device))
        yield Row(f"{size}: {what}", _beside(taken["ours"], taken["other"], against))


def _pruning(size: str, repeats: int, device: torch.device) -> Iterator[Row]:
    dense = copy_model(_model(size), device)
    pruned = {"ours": copy_model(dense), "torch": copy_model(dense)}
    ours(pruned["ours"])
    torchs(pruned["torch"])
    for name, models in (("first", {"ours": dense, "torch": dense}), ("second", pruned)):
        taken = interleaved(
            repeats,
            ours=_timed(ours, device, partial(copy_model, models["ours"])),
            torch=_timed(torchs, device, partial(copy_model, models["torch"])),
        )
        mine, torchs_own = taken["ours"], taken["torch"]
        is_met = mine.median <= torchs_own.median
        yield Row(f"{size}: {name} pruning", _beside(mine, torchs_own, "torch's"), is_met, "≤ torch's")


def _packed_by_cpu(masks: Mapping[str, Tensor]) -> dict[str, PackedMask]:
    return {name: pack(mask.cpu()) for name, mask in masks.items()}


def _one_by_one(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _timed(
    work: Callable[..., object], device: torch.device, prepare: Callable[[], nn.Module] | None = None
) -> Callable[[], float]:
    def prepared() -> nn.Module | None:
        made = None if prepare is None else prepare()
        synchronize(device)
        return made

    def done(made: nn.Module | None) -> None:
        work() if made is None else work(made)
        synchronize(device)

    return seconds(done, prepared)


def _beside(mine: Spread, other: Spread, against: str) -> str:
    return f"{1000 * mine.median:,.2f} ms; {against} {1000 * other.median:,.2f} ms"
