"""Peak memory of a transfer on both sides, and of a coordinator in a round of few and of many results."""

import multiprocessing as mp
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from benchmarks.coordinators import CoordinatorProcess, Hands
from benchmarks.harness import Row, at_most, constant, in_turn, share
from benchmarks.inputs import random_masks, random_tensors
from benchmarks.parts.stream import RoundTrip
from benchmarks.peakmemory import MIB, MemoryWatch, settle_memory
from lotteryfl.allocator import keep_freed_memory
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.payload import pack_mask_update
from lotteryfl.common.wire.table import TensorTable

PRUNING = {"prune_rate": 0.9, "target_density": 0.1, "accuracy_threshold": 0.0}
"""A step of it leaves room for results at density 0.2."""


@dataclass(frozen=True)
class Sizes:
    """Which models travel, and how many results of which models make up a round, and how often."""

    transfers: tuple[str, ...]
    masked_transfer: str
    few: int
    many: tuple[tuple[int, str], ...]
    repeats: int


FULL = Sizes(
    ("11 M", "45 M", "350 M"),
    masked_transfer="350 M",
    few=4,
    many=((64, "11 M"), (400, "1 M in 500 tensors")),
    repeats=2,
)
QUICK = Sizes(("1.9 M",), masked_transfer="1.9 M", few=1, many=((3, "20 k"),), repeats=1)


def rows(sizes: Sizes) -> list[Row]:
    """Transfers of models, then whole rounds at density 0.2."""
    transfers = [row for size in sizes.transfers for row in _transfer(size)]
    rounds = [_rounds(sizes, *many) for many in sizes.many]
    return [*transfers, _masked_download(sizes.masked_transfer), *rounds]


def _transfer(size: str) -> list[Row]:
    """Watch both sides while a model goes down and up again; a first round trip warms up, and the round stays open."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp.get_context("spawn")) as worker:
        coordinator = CoordinatorProcess(
            Path(folder) / "run", size, clients=3, clients_per_round=3, strategy={"name": "fedavg"}
        )
        payload = constant(coordinator.table.nbytes / MIB)
        with coordinator:
            pid = worker.submit(Worker.start, coordinator.address, coordinator.table).result()
            worker.submit(Worker.round_trip).result()
            coordinator.settle_memory()
            with MemoryWatch(pid) as worker_memory, MemoryWatch(coordinator.pid) as coordinator_memory:
                worker.submit(Worker.round_trip).result()
    label = f"memory of a transfer of {size}"
    theirs = constant(coordinator_memory.extra / MIB)
    return [
        share(f"{label}, worker", constant(worker_memory.extra / MIB), payload, "payload", "MiB", at_most(1.15)),
        share(f"{label}, coordinator", theirs, payload, "payload", "MiB", at_most(32, of="ours")),
    ]


def _masked_download(size: str) -> Row:
    """Watch the coordinator while it takes a client's kept values out of the global model and sends them."""
    with tempfile.TemporaryDirectory() as folder:
        coordinator = CoordinatorProcess(
            Path(folder) / "run", size, rounds=2, clients=1, clients_per_round=1, strategy=PRUNING
        )
        result = _result(coordinator.table, 0)
        with coordinator:
            hands = Hands(coordinator.address, coordinator.table)
            hands.submit(hands.fetch()[0], *result)
            hands.fetch()  # of the next round: this one is committed, and the next fetch brings the same once more
            coordinator.settle_memory()
            with MemoryWatch(coordinator.pid) as memory:
                _, values = hands.fetch()
    payload = constant(sum(value.nbytes for value in values.values()) / MIB)
    label = f"memory of a transfer of {size} at density 0.2, coordinator"
    return share(label, constant(memory.extra / MIB), payload, "payload", "MiB", at_most(32, of="ours"))


class Worker:
    """The worker of a process of its own."""

    trip: RoundTrip

    @classmethod
    def start(cls, address: str, table: TensorTable) -> int:
        """Build the model and connect; return the process's number."""
        keep_freed_memory()
        cls.trip = RoundTrip(address, table)
        return os.getpid()

    @classmethod
    def round_trip(cls) -> None:
        """Do one assignment; memory that it has freed is given back afterwards."""
        cls.trip.down()
        cls.trip.up()
        settle_memory()


def _rounds(sizes: Sizes, many: int, model: str) -> Row:
    """Watch the coordinator while a round's results come in and are put together, of few and of many."""
    measures = (partial(_round, model, results, sizes.few) for results in (sizes.few, many))
    peaks = in_turn(sizes.repeats, **dict(zip(("few", "many"), measures, strict=True)))  # each in a process of its own
    label = f"coordinator's peak, round of {many} × {model} at density 0.2"
    return share(label, peaks["many"], peaks["few"], f"round of {sizes.few}", "MiB", at_most(1.1))


def _round(model: str, results: int, different: int) -> float:
    """Return the MiB of a coordinator at the peak of a round, the process itself included."""
    with tempfile.TemporaryDirectory() as folder:
        coordinator = CoordinatorProcess(
            Path(folder) / "run",
            model,
            rounds=2,
            clients=results,
            clients_per_round=results,
            strategy=PRUNING,
        )
        drawn = [_result(coordinator.table, seed) for seed in range(different)]
        with coordinator:
            hands = Hands(coordinator.address, coordinator.table)
            with MemoryWatch(coordinator.pid) as memory:
                for number in range(results):
                    assignment, _ = hands.fetch()
                    hands.submit(assignment, *drawn[number % different])
                hands.fetch()  # of the next round: this one is committed
    return memory.peak / MIB


def _result(table: TensorTable, seed: int) -> tuple[dict[str, Tensor], Masks]:
    masks = random_masks(table, 0.2, seed)
    values = WireFormat(table, "float32").pack(random_tensors(table, seed), masks)
    return values | pack_mask_update(masks, {}), masks
