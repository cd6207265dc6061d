"""Coded masks from plan to verification: what comes is kept as it came, and means what packed ones mean."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from lotteryfl.common.tensors.file import open_file
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.verify import verify
from tests.support.bench import Bench, TinyTask, tiny_experiment
from tests.support.playing import settings

pytest.importorskip("constriction")

Drive = Callable[..., Bench]


def wide() -> nn.Module:
    """2,400 + 1,200 prunable weights: enough for coded masks to be the smaller ones."""
    return nn.Sequential(nn.Linear(6, 400), nn.ReLU(), nn.Linear(400, 3))


def opened(drive: Drive, coding: str, strategy: str = "lotteryfl", **changes: Any) -> Bench:
    options = {"prune_rate": 0.9, "scope": "layer", "target_density": 0.01, "min_mask_change": 0, "readjust_every": 1}
    experiment = tiny_experiment(**settings(strategy, **options), rounds=4, mask_coding=coding, **changes)
    return drive(experiment, TinyTask(wide), coding)


def kinds_sent(bench: Bench, round_: int) -> set[str]:
    files = [bench.path / row.file for row in bench.run.database.results(round_)]
    return {key.partition("/")[0] for file in files for key in open_file(file)} - {"kept", "dense", "scale"}


@pytest.mark.parametrize(
    ("strategy", "wire_dtype", "coded_in"),
    [("lotteryfl", "float32", (1, 2)), ("feddst", "int8", (1,)), ("sub-fedavg", "bfloat16", (1, 2))],
)
def test_a_run_has_the_same_bits_whatever_its_masks_travel_as(
    drive: Drive, strategy: str, wire_dtype: str, coded_in: tuple[int, ...]
) -> None:
    """In whole masks and in parts of masks; and where the coordinator is killed between two rounds."""
    bits = {}
    for coding in ("packed", "ans"):
        bench = opened(drive, coding, strategy, wire_dtype=wire_dtype)
        for round_ in (1, 2):
            bench.do_all(bench.register())
            assert ("coded" in kinds_sent(bench, round_)) == (coding == "ans" and round_ in coded_in)
            bench.commit()
            bench.incarnation += 1
            bench.restart()
        bits[coding] = bench.finish().bits()
        assert verify(bench.path).problems == 0
    assert bits["ans"] == bits["packed"]


def test_a_coded_mask_that_was_spoilt_is_refused_in_one_line(drive: Drive) -> None:
    bench = opened(drive, "ans")
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    answer.entries["coded/0.weight"][0] += 1
    reply = bench.submit(worker, answer)
    assert reply.verdict == pb.SubmitReply.REFUSED
    assert reply.reason.startswith("coded/0.weight: ")
    assert "\n" not in reply.reason


def test_a_coded_mask_is_refused_in_a_run_without_them(drive: Drive) -> None:
    coded, bench = opened(drive, "ans"), opened(drive, "packed")
    answers = []
    for each in (coded, bench):
        worker = each.register()
        answers.append(each.do(each.take(worker)))
    answers[0].result.assignment_id = answers[1].result.assignment_id
    reply = bench.submit(worker, answers[0])
    assert (reply.verdict, reply.reason) == (pb.SubmitReply.REFUSED, "'coded/0.weight': unexpected: not asked for")
