"""Many small assignments for two workers: what one costs beside its bytes and its training."""

import multiprocessing as mp
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.coordinators import TASK, CoordinatorProcess
from benchmarks.harness import Row, Spread, at_most, seconds, share
from benchmarks.rawserver import RawServer
from lotteryfl.allocator import keep_freed_memory
from lotteryfl.client.connection import Connection
from lotteryfl.client.worker import Worker, WorkerSettings


@dataclass(frozen=True)
class Sizes:
    """How many assignments a round has, for how many workers."""

    assignments: int
    workers: int
    rounds: int
    """The first starts everything up; the others are measured."""


FULL = Sizes(assignments=200, workers=2, rounds=3)
QUICK = Sizes(assignments=4, workers=1, rounds=2)

MODEL = "20 k in 62 tensors"


def rows(sizes: Sizes) -> list[Row]:
    """Seconds of a round beside those of its bytes alone."""
    rounds, payload = _run(sizes)
    with RawServer(payload, keep_memory=True) as raw:
        down, up = seconds(raw.grpc_down), seconds(raw.grpc_up_to_disk)
        streams = [sum(down() + up() for _ in range(sizes.assignments)) for _ in range(len(rounds.values) + 1)][1:]
    label = f"{sizes.assignments} assignments of {MODEL}, {sizes.workers} workers"
    against = "raw gRPC streams of its bytes, one by one, results to disk"
    return [share(label, rounds, Spread(tuple(streams)), against, "s", at_most(3.0, "ours"))]


def _run(sizes: Sizes) -> tuple[Spread, int]:
    spawn = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        coordinator = CoordinatorProcess(
            Path(folder) / "run",
            MODEL,
            rounds=sizes.rounds,
            clients=sizes.assignments,
            clients_per_round=sizes.assignments,
            strategy={"name": "fedavg"},
        )
        with coordinator:
            workers = [
                spawn.Process(target=_work, args=(coordinator.address, f"worker-{number}"))
                for number in range(sizes.workers)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            commits = coordinator.laps()["commit"][: sizes.rounds]
    return Spread(tuple(end.end - begin.end for begin, end in pairwise(commits))), coordinator.table.nbytes


def _work(address: str, name: str) -> None:
    keep_freed_memory()
    with Connection(address, patience=60.0) as connection:
        Worker(connection, WorkerSettings(name, torch.device("cpu"), None, (TASK,), "")).run()
