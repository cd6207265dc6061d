"""Many small assignments for two workers: what one costs beside its bytes and its training."""

import multiprocessing as mp
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.coordinators import TASK, CoordinatorProcess
from benchmarks.harness import Row, Spread, at_most, seconds, share
from benchmarks.rawserver import RawServer
from lotteryfl.allocator import keep_freed_memory
from lotteryfl.client.connection import Connection
from lotteryfl.client.settings import WorkerSettings
from lotteryfl.client.worker import Worker


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
    rounds, payload = served_rounds(MODEL, sizes.assignments, sizes.workers, sizes.rounds)
    with RawServer(payload, keep_memory=True) as raw:
        down, up = seconds(raw.grpc_down), seconds(raw.grpc_up_to_disk)
        streams = [sum(down() + up() for _ in range(sizes.assignments)) for _ in range(len(rounds.values) + 1)][1:]
    label = f"{sizes.assignments} assignments of {MODEL}, {sizes.workers} workers"
    against = "raw gRPC streams of its bytes, one by one, results to disk"
    return [share(label, rounds, Spread(tuple(streams)), against, "s", at_most(3.0, "ours"))]


def served_rounds(model: str, assignments: int, workers: int, rounds: int, **experiment: Any) -> tuple[Spread, int]:
    """Return the seconds of each round but the first, and the bytes of a model.

    Args:
        model: one of `benchmarks.inputs.MODELS`.
        assignments: of a round.
        workers: processes.
        rounds: of the run.
        experiment: more keys and sections of the experiment.
    """
    spawn = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        coordinator = CoordinatorProcess(
            Path(folder) / "run",
            model,
            rounds=rounds,
            clients=assignments,
            clients_per_round=assignments,
            strategy={"name": "fedavg"},
            **experiment,
        )
        with coordinator:
            processes = [
                spawn.Process(target=_work, args=(coordinator.address, f"worker-{number}")) for number in range(workers)
            ]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            commits = coordinator.laps()["commit"][:rounds]
    return Spread(tuple(end.end - begin.end for begin, end in pairwise(commits))), coordinator.table.nbytes


def _work(address: str, name: str) -> None:
    keep_freed_memory()
    with Connection(address, patience=60.0) as connection:
        Worker(connection, WorkerSettings(name, torch.device("cpu"), None, (TASK,), "")).run()
