"""A worker's CPU for an assignment that trains next to nothing: what it costs to take a ticket in and hand it back."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from zlib_ng import zlib_ng

from benchmarks import ballast
from benchmarks.coordinators import TASK, CoordinatorProcess
from benchmarks.harness import Goal, Measure, Row, Spread, at_most, interleaved, share
from benchmarks.inputs import random_masks, random_tensors
from lotteryfl.client.connection import Connection
from lotteryfl.client.leases import Lease
from lotteryfl.client.settings import WorkerSettings
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.client.work.workplace import Workplace
from lotteryfl.client.worker import Worker
from lotteryfl.common import packedmasks
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.tasks import load_task
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.tensors.tensorreceiver import TensorReceiver
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.loop import train
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.framing import deserializer, frames, take
from lotteryfl.common.wire.payload import mask_digest
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb

CPU = torch.device("cpu")
DENSITY = 0.1
TICKET = {"prune_rate": 0.9, "target_density": DENSITY, "accuracy_threshold": 0.0}
PLAN = pb.Plan(prune=pb.Plan.Prune(rate=0.9, target_density=1.0, accuracy_threshold=0.0), train=pb.Plan.Train(epochs=1))
"""With a gate that is passed, and nothing that is left to prune."""


@dataclass(frozen=True)
class Sizes:
    """Which models, and how often."""

    model: str
    many_tensors: str
    rounds: int
    """Of the worker that has a coordinator: the first two start everything up, and prune."""
    repeats: int


FULL = Sizes("11 M", many_tensors="2,000 tensors", rounds=12, repeats=7)
QUICK = Sizes("20 k", many_tensors="20 k", rounds=4, repeats=1)


def rows(sizes: Sizes) -> list[Row]:
    """Milliseconds of an assignment's CPU, beyond training and evaluating, beside the floor of its bytes."""
    torch.set_num_threads(1)
    label = f"worker's CPU, {sizes.model} at density {DENSITY}"
    bench = Bench(sizes.model)
    measures: dict[str, Measure] = {
        "same": bench.assignments(fresh=False, masks=cycle([bench.masks(0)])),
        "changing": bench.assignments(fresh=False, masks=map(bench.masks, count(1))),
        "cold": bench.assignments(fresh=True, masks=cycle([bench.masks(0)])),
        "floor": bench.floor(),
    }
    taken = interleaved(sizes.repeats, **measures)
    floor = taken.pop("floor")
    what = "copies, sums and moves of its values"
    found = [share(f"{label}, {case} mask", spread, floor, what, "ms") for case, spread in taken.items()]
    whole = _served(sizes, bench.own)
    pairs = Spread(floor.values[:1])
    found.insert(0, share(f"{label}, gRPC and heartbeat included", whole, pairs, what, "ms", at_most(40, of="ours")))
    return [*found, *_by_tensor(sizes)]


def _by_tensor(sizes: Sizes) -> list[Row]:
    """Divide an assignment's CPU, training and evaluating included, by the tensors of the model."""
    bench = Bench(sizes.many_tensors)
    number = len(bench.table)
    taken = interleaved(
        sizes.repeats,
        ours=bench.assignments(fresh=False, masks=cycle([bench.masks(0)]), beyond=False),
        own=bench.own,
    )
    ours, own = (Spread(tuple(value / number for value in spread.values)) for spread in taken.values())
    goal: Goal = at_most(0.2, of="ours")
    return [share(f"worker's CPU for each of {number} tensors", ours, own, "training and evaluating", "ms", goal)]


class Bench:
    """A worker without a network, and what it is given."""

    def __init__(self, size: str) -> None:
        os.environ[ballast.SIZE] = size
        self.experiment = validate({"task": {"name": TASK}, "training": {"epochs": 1}}, "benchmark")
        self.task = load_task(self.experiment, (TASK,))
        model = self.task.model()
        self.table = TensorTable.of(model)
        self._initial = {name: tensor.clone() for name, tensor in named_tensors(model).items()}
        self._values = random_tensors(self.table, 0)
        self._model = model

    def masks(self, seed: int) -> Masks:
        """Return another client's, or another round's."""
        return random_masks(self.table, DENSITY, seed)

    def own(self) -> float:
        """Return the milliseconds of training and evaluating, three times, the plain model."""
        data = self.task.client_data(0)
        start = time.process_time()
        train(self._model, data.train, epochs=1, lr=1e-4)
        for _ in range(3):  # as downloaded, for the gate, as trained
            evaluate(self._model, data.test)
        return 1000 * (time.process_time() - start)

    def assignments(self, *, fresh: bool, masks: Iterator[Masks], beyond: bool = True) -> Measure:
        """Return the measure of one assignment after the other.

        Args:
            fresh: each by a worker that has not seen the mask.
            masks: of each.
            beyond: leave out training and evaluating.
        """

        def runner() -> AssignmentRunner:
            return AssignmentRunner(self.task, self.experiment, self.table, self._initial, CPU)

        kept = runner()
        kept.run(*self._assignment(self.masks(0)))  # what a worker does once

        def measure() -> float:
            its = next(masks)
            assignment, entries, packed = self._assignment(its)
            worker = runner() if fresh else kept
            messages = _messages(entries)
            start = time.process_time()
            workplace = worker.new_workplace()
            arrived = _received(TensorStream(entries).size, messages, workplace)
            outcome = worker.follow(assignment, worker.load(workplace, assignment, arrived, packed))
            _sent(outcome.entries)
            spent = 1000 * (time.process_time() - start)
            return spent - self.own() if beyond else spent

        return measure

    def floor(self) -> Measure:
        """Return the measure of what cannot be done without: each value copied, summed, looked at and moved, twice."""
        packed = packedmasks.pack(torch.cat([self._bits(name, mask) for name, mask in self.masks(0).items()]))
        positions = packedmasks.positions(packed)
        whole = np.zeros(packed.size * 8, np.float32)
        kept = np.ones(positions.size, np.float32)

        def measure() -> float:
            start = time.process_time()
            arrived = kept.copy()
            zlib_ng.crc32(arrived)
            torch.aminmax(torch.from_numpy(arrived))
            whole.fill(0)
            whole[positions] = arrived
            np.take(whole, positions, out=arrived, mode="clip")
            torch.aminmax(torch.from_numpy(arrived))
            zlib_ng.crc32(arrived)
            arrived.copy()
            return 1000 * (time.process_time() - start)

        return measure

    def _bits(self, name: str, packed: packedmasks.PackedMask) -> Tensor:
        return packedmasks.unpack(packed, (self.table[name].numel,))

    def _assignment(self, masks: Masks) -> tuple[pb.Assignment, dict[str, Tensor], Masks]:
        entries = WireFormat(self.table, "float32").pack(self._values, masks)
        digest = mask_digest(masks)
        assignment = pb.Assignment(assignment_id="r1-c0-a1", round=1, seed=1, plan=PLAN, mask_digest=digest)
        return assignment, entries, masks


def _messages(entries: dict[str, Tensor]) -> list[pb.AssignmentPart | memoryview]:
    read: Callable[[bytes], pb.AssignmentPart | memoryview] = deserializer(pb.AssignmentPart)
    return [read(message) for message in list(frames(pb.AssignmentPart(), TensorStream(entries)))[1:]]


def _received(size: int, messages: list[pb.AssignmentPart | memoryview], workplace: Workplace) -> dict[str, Tensor]:
    receiver = TensorReceiver(size, size, "benchmark", workplace.place)
    *chunks, trailer = messages
    for chunk in chunks:
        take(receiver, chunk)
    whole = take(receiver, trailer)
    if whole is None:
        raise AssertionError("the last message is no trailer")
    return whole


def _sent(entries: Any) -> None:
    for _ in frames(pb.ResultPart(), TensorStream(entries)):
        pass


class Timed(Worker):
    """Notes the milliseconds of CPU that the whole process had taken when the work of each assignment began."""

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.begins: list[float] = []

    def _work(self, leases: Sequence[Lease]) -> bool:
        self.begins.append(1000 * time.process_time())
        return super()._work(leases)


def _served(sizes: Sizes, own: Measure) -> Spread:
    """Return what an assignment takes of a worker that has a coordinator, beyond training and evaluating."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        coordinator = CoordinatorProcess(
            path, sizes.model, rounds=sizes.rounds, clients=1, clients_per_round=1, strategy=TICKET
        )
        with coordinator, Connection(coordinator.address, patience=60.0) as connection:
            worker = Timed(connection, WorkerSettings("worker", CPU, None, (TASK,), ""))
            worker.run()
    return Spread(tuple(end - begin - own() for begin, end in pairwise(worker.begins[2:])))
