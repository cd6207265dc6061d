"""A worker's CPU to have the test examples of an assignment, few of many: all but the measuring itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.harness import Row, at_most, interleaved, share
from lotteryfl.client.work.labelledprobe import LabelledProbe
from lotteryfl.client.work.testdata import TestData
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.models import IMAGES
from lotteryfl.common.tasks.builtin import BuiltInTask, Examples
from lotteryfl.common.training.examples import Examples as Read
from lotteryfl.common.training.objective import Labelled
from lotteryfl.protos import lotteryfl_pb2 as pb

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sizes:
    """How many test examples of how many, and how often."""

    taken: int
    test: int
    train: int
    repeats: int


FULL = Sizes(taken=100, test=10_000, train=60_000, repeats=9)
QUICK = Sizes(taken=10, test=100, train=6_000, repeats=1)


def rows(sizes: Sizes) -> list[Row]:
    """Milliseconds, of pixels as they lie and of pixels that are turned first."""
    torch.set_num_threads(1)
    return [
        row
        for name in ("mnist", "cifar10")
        for kind, how in (("iid", ""), ("feature-skew", ", turned by 45°"))
        for row in _rows(sizes, name, kind, how)
    ]


def _rows(sizes: Sizes, name: str, kind: str, how: str) -> list[Row]:
    partition = {"kind": kind, "examples_per_client": sizes.train // 100, "rotations": 8}
    experiment = validate(
        {"task": {"name": name}, "partition": partition, "evaluation": {"test_examples": sizes.taken}}, "benchmark"
    )
    task = BuiltInTask(name, experiment, _random(name, sizes))
    test_data = TestData(task, experiment)
    probe = LabelledProbe(name, task.model(), CPU, experiment.evaluation.batch_size)

    def measure(*, whole: bool) -> float:
        start = time.process_time()
        data = task.client_data(1)
        if whole:
            next(iter(Read(data.test, CPU, Labelled()).in_order(sizes.test)))
        test = test_data.own(pb.Assignment(round=1, client=1), data)
        probe.look(1, data, None)
        for _ in Read(test, CPU, Labelled()).in_order(experiment.evaluation.batch_size):
            pass
        return 1000 * (time.process_time() - start)

    taken = interleaved(sizes.repeats, ours=lambda: measure(whole=False), whole=lambda: measure(whole=True))
    label = f"{sizes.taken} of {sizes.test:,} test examples, {name}{how}"
    return [share(label, taken["ours"], taken["whole"], "building all", "ms", at_most(10, of="ours"))]


def _random(name: str, sizes: Sizes) -> Callable[[Experiment], tuple[Examples, Examples]]:
    def load(_: Experiment) -> tuple[Examples, Examples]:
        channels, side, classes = IMAGES[name]
        random = torch.Generator().manual_seed(0)
        train, test = (
            Examples(
                torch.randint(256, (count, channels, side, side), generator=random, dtype=torch.uint8),
                torch.arange(count) % classes,
                mean=128.0,
                std=74.0,
            )
            for count in (sizes.train, sizes.test)
        )
        return train, test

    return load
