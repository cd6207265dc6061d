"""Global magnitude pruning against `torch.nn.utils.prune.global_unstructured`, which gives the same masks."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn
from torch.nn.utils import prune

from benchmarks.harness import Row, at_least, at_most, constant, interleaved, seconds, share, times_less
from benchmarks.inputs import MODELS
from benchmarks.peakmemory import MIB, extra_memory
from lotteryfl.common.pruning.parameters import copy_model, named_masks
from lotteryfl.common.pruning.prune import get_prune_params, prune_fixed_amount

RATE = 0.2

FULL = {"11 M": 5, "11 M in 60 layers": 5, "45 M": 3}
"""Models, and how often each is pruned."""
QUICK = {"20 k": 1}

Prune = Callable[[nn.Module], None]


def ours(model: nn.Module) -> None:
    """Prune by our function."""
    prune_fixed_amount(model, RATE, verbose=False)


def torchs(model: nn.Module) -> None:
    """Prune by torch's."""
    weights, _ = get_prune_params(model)
    prune.global_unstructured(weights, prune.L1Unstructured, amount=RATE)


def rows(sizes: Mapping[str, int]) -> list[Row]:
    """Time and memory of the first and of a later round, in one thread, as workers have by default."""
    torch.set_num_threads(1)
    found = []
    for size, repeats in sizes.items():
        torch.manual_seed(0)
        dense = MODELS[size]()
        pruned = {"ours": copy_model(dense), "torch": copy_model(dense)}
        ours(pruned["ours"])
        torchs(pruned["torch"])
        _check_same_masks(pruned)
        for name, models, goal in (
            ("first round", {"ours": dense, "torch": dense}, 10),
            ("later rounds", pruned, 15),
        ):
            times = interleaved(
                repeats,
                ours=seconds(ours, partial(copy_model, models["ours"])),
                torch=seconds(torchs, partial(copy_model, models["torch"])),
            )
            found.append(
                times_less(f"prune {size}, {name}", times["ours"], times["torch"], "torch", "s", at_least(goal))
            )
        found += _memory_rows(size)
    return found


def _memory_rows(size: str) -> list[Row]:
    model = MODELS[size]()
    model_mib = 4 * sum(parameter.numel() for parameter in model.parameters()) / MIB
    written = 2 * 4 * get_prune_params(model)[1] / MIB  # masks and products, new in the first round
    found = []
    for name, rounds, new in (("first round", 0, written), ("later rounds", 1, 0.0)):
        mine, theirs = (extra_memory(partial(_prepared, size, f, rounds)) / MIB - new for f in (ours, torchs))
        label = f"memory to prune {size}, {name}, beyond masks and products"
        found += [
            share(label, constant(mine), constant(model_mib), "the model", "MiB", at_most(0.5)),
            times_less(label, constant(mine), constant(theirs), "torch", "MiB"),
        ]
    return found


def _prepared(size: str, prune_once: Prune, rounds_before: int) -> Callable[[], object]:
    torch.manual_seed(0)
    model = MODELS[size]()
    for _ in range(rounds_before):
        prune_once(model)
    return partial(prune_once, model)


def _check_same_masks(models: dict[str, nn.Module]) -> None:
    """Compare masks; equal magnitudes at the threshold, where torch's choice is arbitrary, do not occur here."""
    mine, theirs = (named_masks(models[name]) for name in ("ours", "torch"))
    differing = [name for name in mine if not torch.equal(mine[name], theirs[name])]
    if mine.keys() != theirs.keys() or differing:
        raise AssertionError(f"the masks differ from torch's in {differing or mine.keys() ^ theirs.keys()}")
