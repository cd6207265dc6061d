"""`lotteryfl verify` holds masks to those before them: they only shrink."""

# ruff: noqa: S608 - every query is our own

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lotteryfl.common.packedmasks import PackedMask, count
from lotteryfl.common.wire.payload import mask_digest
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import Bench
from tests.support.damage import edit, problems, rewritten

Drive = Callable[..., Bench]


def _remask(path: Path, round_: int, *, keep: int, prune: int) -> None:
    """Let client 0's result keep weights that were pruned before, prune others, and have all that goes with it."""
    with RunDirectory(path) as run:
        result, assignment = run.database.results(round_)[0], run.database.assignments(round_)[0]
        masks = {name: packed.copy() for name, packed in run.load_masks(result.mask).items()}
        pruned_before = _positions(~run.load_masks(assignment.mask)["0.weight"])
        for index in (*pruned_before[:keep], *_positions(masks["0.weight"])[:prune]):
            masks["0.weight"][index // 8] ^= 1 << index % 8
        new, density = mask_digest(masks), sum(map(count, masks.values())) / 108
        run.save_masks(masks, new)
        with rewritten(path / result.file) as tensors:
            tensors.update({f"kept/{name}": torch.ones(count(packed)) for name, packed in masks.items()})
    edit(
        path,
        f"UPDATE results SET mask = '{new}', density = {density!r} WHERE client = 0 AND round = {round_}",
        f"UPDATE clients SET mask = '{new}' WHERE client = 0 AND ticket = '{result.file}'",
    )


def _positions(mask: PackedMask) -> list[int]:
    return [int(index) for index in np.flatnonzero(np.unpackbits(mask, bitorder="little"))]


KEPT_AGAIN = r"results/.*: '0\.weight': its mask keeps weights that were pruned before: a mask only shrinks"


def test_a_mask_that_has_grown_is_named(finished_run: Path) -> None:
    _remask(finished_run, 3, keep=2, prune=0)
    grown, kept_again = problems(finished_run)
    expected = f"density {56 / 108:.6g}, expected 0 to 0.5 as before: a mask only shrinks"
    assert grown == f"run.db: results: round 3, client 0: {expected}"
    assert re.fullmatch(KEPT_AGAIN, kept_again)


def test_a_mask_that_has_moved_is_named(finished_run: Path) -> None:
    _remask(finished_run, 3, keep=1, prune=1)
    moved, kept_again = problems(finished_run)
    assert moved.endswith("density 0.5 after 0.5: expected both to change, or neither")
    assert re.fullmatch(KEPT_AGAIN, kept_again)


@pytest.fixture
def half_done(drive: Drive) -> Bench:
    """Killed when all results of the second round were in, each with a mask pruned further."""
    bench = drive()
    bench.do_all(worker := bench.register())
    bench.commit()
    bench.do_all(worker)
    bench.close()
    return bench


def test_a_mask_that_has_shrunk_to_weights_pruned_before_is_named(half_done: Bench) -> None:
    """Its density tells nothing: it takes the mask before, which is there while the round is open."""
    assert problems(half_done.path) == []
    _remask(half_done.path, 2, keep=1, prune=9)
    (kept_again,) = problems(half_done.path)
    assert re.fullmatch(KEPT_AGAIN, kept_again)


def test_a_mask_that_is_not_the_one_that_came_is_named(half_done: Bench) -> None:
    _remask(half_done.path, 2, keep=0, prune=1)
    (problem,) = problems(half_done.path)
    assert re.fullmatch("results/.*: the mask that came with it is [0-9a-f]{64}, expected [0-9a-f]{64}", problem)


def test_an_open_rounds_work_starts_from_the_clients_masks_and_the_global_model(half_done: Bench) -> None:
    edit(
        half_done.path, "UPDATE assignments SET source = 'models/round-0000.safetensors' WHERE (round, client) = (2, 0)"
    )
    (problem,) = problems(half_done.path)
    expected = "file 'models/round-0000.safetensors', expected 'models/round-0001.safetensors' as the client's"
    assert problem == f"run.db: assignments: round 2, client 0: {expected}"
