"""Peak memory of a transfer on both sides, and of a coordinator in a round of few and of many results."""

import multiprocessing as mp
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from torch import Tensor

from benchmarks.coordinators import CoordinatorProcess, Hands
from benchmarks.harness import Row, at_most, constant, interleaved, share
from benchmarks.inputs import random_masks, random_tensors
from benchmarks.peakmemory import MIB, MemoryWatch, settle_memory
from benchmarks.stream import RoundTrip
from lotteryfl.allocator import keep_freed_memory
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.payload import mask_digest, pack_mask_update
from lotteryfl.common.wire.table import TensorTable

TRANSFERS = ("11 M", "45 M", "350 M")
FEW, MANY = 4, 64


def rows() -> list[Row]:
    """Transfers of models, then whole rounds at density 0.2."""
    return [row for size in TRANSFERS for row in _transfer(size)] + [_masked_download("350 M")] + _rounds()


def _transfer(size: str) -> list[Row]:
    """Watch both sides while a model goes down and up again; a first round trip warms up."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp.get_context("spawn")) as worker:
        coordinator = CoordinatorProcess(
            Path(folder) / "run", size, clients=2, clients_per_round=2, strategy={"name": "fedavg"}
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
        coordinator = CoordinatorProcess(Path(folder) / "run", size, rounds=2, clients=1, clients_per_round=1)
        values, digest = _answer(coordinator.table, 0)
        with coordinator:
            hands = Hands(coordinator.address, coordinator.table)
            hands.submit(hands.fetch()[0], values, digest)
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


def _rounds() -> list[Row]:
    peaks = interleaved(2, few=partial(_round, FEW), many=partial(_round, MANY))
    label = f"coordinator's peak, round of {MANY} × 11 M at density 0.2"
    return [share(label, peaks["many"], peaks["few"], f"round of {FEW}", "MiB", at_most(1.1))]


def _round(results: int) -> float:
    """Return the MiB of a coordinator at the peak of a round, the process itself included."""
    with tempfile.TemporaryDirectory() as folder:
        coordinator = CoordinatorProcess(
            Path(folder) / "run", "11 M", rounds=2, clients=results, clients_per_round=results
        )
        answers = [_answer(coordinator.table, seed) for seed in range(FEW)]
        with coordinator:
            hands = Hands(coordinator.address, coordinator.table)
            with MemoryWatch(coordinator.pid) as memory:
                for number in range(results):
                    assignment, _ = hands.fetch()
                    hands.submit(assignment, *answers[number % FEW])
                hands.fetch()  # of the next round: this one is committed
    return memory.peak / MIB


def _answer(table: TensorTable, seed: int) -> tuple[dict[str, Tensor], str]:
    masks = random_masks(table, 0.2, seed)
    values = WireFormat(table, "float32").pack(random_tensors(table, seed), masks)
    return values | pack_mask_update(masks, {}), mask_digest(masks)
