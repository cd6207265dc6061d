"""A round of 8 workers that train next to nothing: what it costs to move and put together 11 M parameters."""

import multiprocessing as mp
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import torch

import lotteryfl.client.work.assignment
from benchmarks.coordinators import TASK, CoordinatorProcess
from benchmarks.harness import Row, Spread, seconds, share
from benchmarks.rawserver import RawServer
from benchmarks.stopwatch import Lap, Laps, Stopwatch, seconds_within
from lotteryfl.allocator import keep_freed_memory
from lotteryfl.client.connection import Connection
from lotteryfl.client.download import Download
from lotteryfl.client.settings import WorkerSettings
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.client.worker import Worker
from lotteryfl.common.wire.format import WireFormat


@dataclass(frozen=True)
class Sizes:
    """How many workers do how many rounds with which model."""

    workers: int
    model: str
    rounds: int
    """The first starts everything up; the others are measured."""


FULL = Sizes(workers=8, model="11 M", rounds=4)
QUICK = Sizes(workers=1, model="20 k", rounds=2)

STRATEGIES: dict[str, dict[str, Any]] = {
    "dense": {"name": "fedavg"},
    "at density 0.2": {"prune_rate": 0.8, "target_density": 0.2, "accuracy_threshold": 0.0},
}
STEPS = {
    "dispatch": "lease on disk",
    "read": "gather from the file",
    "download": "first to last byte",
    "decode": "into the model",
    "encode": "out of the model",
    "upload": "first byte to the answer; includes the next three",
    "spool": "chunks to the file",
    "fsync": "everyone's, databases' apart",
    "check": "every value",
    "aggregate": "all results to the new model's file",
    "commit": "of the round",
}
"""Step → what it is. All but the last two are summed over the workers, which run at the same time."""
NO_STEPS = {"dense": {"read"}}
"""Case → steps that it does without: a dense model is sent as it lies in its file."""


def rows(sizes: Sizes) -> list[Row]:
    """Seconds of a round, and of every step in it."""
    return [row for case in STRATEGIES for row in _rows(sizes, case)]


def _rows(sizes: Sizes, case: str) -> list[Row]:
    rounds, laps, payload = run_rounds(sizes, STRATEGIES[case])
    with RawServer(payload, keep_memory=True) as raw:
        down, up = seconds(raw.grpc_down), seconds(raw.grpc_up)
        streams = [sizes.workers * (down() + up()) for _ in range(len(rounds) + 1)][1:]
    whole = Spread(tuple(lap.seconds for lap in rounds))
    label = f"round of {sizes.workers} × {sizes.model}, {case}"
    steps = {step: what for step, what in STEPS.items() if step not in NO_STEPS.get(case, ())}
    taken = {step: Spread(tuple(seconds_within(laps, step, lap) for lap in rounds)) for step in steps}
    return [
        share(label, whole, Spread(tuple(streams)), "raw gRPC streams of its bytes, one by one", "s"),
        *(share(f"{label}: {step} ({what})", taken[step], whole, "the round", "s") for step, what in steps.items()),
    ]


def run_rounds(sizes: Sizes, strategy: Mapping[str, Any]) -> tuple[list[Lap], Laps, int]:
    """Return the measured rounds, the laps of all processes, and the bytes that a worker returns."""
    found, payload = run_processes(sizes, strategy)
    laps = {step: [lap for one in found for lap in one.get(step, ())] for step in STEPS}
    return measured_rounds(laps, sizes.rounds), laps, payload


def measured_rounds(laps: Laps, rounds: int) -> list[Lap]:
    """Return the rounds between the commits of all but the first."""
    ends = [lap.end for lap in laps["commit"][:rounds]]
    return [Lap(*pair) for pair in pairwise(ends)]


def run_processes(sizes: Sizes, strategy: Mapping[str, Any]) -> tuple[list[Laps], int]:
    """Return the laps of each process, the coordinator's last, and the bytes that a worker returns."""
    spawn = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        coordinator = CoordinatorProcess(
            Path(folder) / "run",
            sizes.model,
            rounds=sizes.rounds,
            clients=sizes.workers,
            clients_per_round=sizes.workers,
            strategy=strategy,
        )
        with coordinator:
            pipes, processes = [], []
            for number in range(sizes.workers):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=_work, args=(coordinator.address, f"worker-{number}", theirs))
                process.start()
                theirs.close()  # where the worker dies, its pipe ends
                pipes.append(ours)
                processes.append(process)
            found: list[Laps] = [pipe.recv() for pipe in pipes]
            for process in processes:
                process.join()
            found.append(coordinator.laps())
        payload = max(path.stat().st_size for path in (Path(folder) / "run" / "results").iterdir())
    return found, payload


def _work(address: str, name: str, parent: Pipe) -> None:
    """Be a worker as `lotteryfl work` is one, with a stopwatch in it."""
    keep_freed_memory()
    stopwatch = Stopwatch()
    stopwatch.wrap("download", Download, "take")
    stopwatch.wrap("upload", Connection, "submit")
    stopwatch.wrap("work", AssignmentRunner, "load", "follow")
    stopwatch.wrap("decode", AssignmentRunner, "_load")
    stopwatch.wrap("encode", WireFormat, "pack")
    stopwatch.wrap("encode", lotteryfl.client.work.assignment, "pack_mask_update", "mask_digest")
    with Connection(address, patience=60.0) as connection:
        Worker(connection, WorkerSettings(name, torch.device("cpu"), None, (TASK,), "")).run()
    parent.send(stopwatch.take())
