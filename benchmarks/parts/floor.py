"""Rounds of 2 workers that train next to nothing beside their floor: bytes over gRPC to disk, fsyncs, one pass."""

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Row, Spread, at_most, interleaved, seconds, share
from benchmarks.inputs import MODELS
from benchmarks.parts.round import Sizes, run_rounds
from benchmarks.rawserver import RawServer

WORKERS = 2
_COMMITS = 2 * WORKERS + 2
"""Transactions of a round that wait for the disk: a lease and a result for each, the round, the next one."""


@dataclass(frozen=True)
class Case:
    """What a round is of."""

    model: str
    density: float
    strategy: Mapping[str, Any]
    most: float
    """The goal, as a multiple of the floor."""
    most_cpu: float | None = None
    """The goal of the coordinator's CPU, in ms."""
    prunes: float = 0.0
    """Share of the kept weights that every round prunes; `density` is that of the round in the middle."""

    @property
    def label(self) -> str:
        """What is said of its masks."""
        if self.prunes:
            return f"pruned by {self.prunes:.0%} in every round"
        return "dense" if self.density == 1 else f"at density {self.density:g}"


_FEDAVG = {"name": "fedavg"}
PRUNED = {"prune_rate": 0.9, "target_density": 0.1, "accuracy_threshold": 0.0}
_PRUNING = {"prune_rate": 0.3, "target_density": 0.01, "accuracy_threshold": 0.0}
FULL = (
    6,
    (
        Case("1 M in 62 tensors", 1.0, _FEDAVG, 1.2),
        Case("11 M", 1.0, _FEDAVG, 1.15),
        Case("11 M", 0.1, PRUNED, 1.7, 200),
        Case("11 M", 0.7**4, _PRUNING, 1.7, prunes=0.3),
    ),
)
QUICK = (2, (Case("20 k", 0.1, PRUNED, 1.7, 200), Case("20 k", 0.7, _PRUNING, 1.7, prunes=0.3)))


def rows(sizes: tuple[int, tuple[Case, ...]]) -> list[Row]:
    """Seconds of a round of every case, and what of it the coordinator computes."""
    rounds, cases = sizes
    return [row for case in cases for row in _rows(rounds, case)]


def _rows(rounds: int, case: Case) -> list[Row]:
    laps, steps, payload = run_rounds(Sizes(WORKERS, case.model, rounds), case.strategy)
    whole = Spread(tuple(lap.seconds for lap in laps))
    cpu = Spread(tuple(1000 * (end.cpu - begin.cpu) for begin, end in pairwise(steps["commit"][:rounds])))
    numel = sum(tensor.numel() for tensor in MODELS[case.model]().state_dict().values())
    if case.prunes:
        payload = round(np.float32().nbytes * numel * case.density)  # of the last round it is less
    with RawServer(payload, keep_memory=True) as raw, tempfile.TemporaryDirectory() as folder:
        work = _Floor(raw, Path(folder), numel, case)
        floor = interleaved(len(laps), floor=seconds(work.round))["floor"]
    name = f"round of {WORKERS} × {case.model}, {case.label}"
    least, goal = Spread(tuple(work.cpu[1:])), None if case.most_cpu is None else at_most(case.most_cpu, of="ours")
    return [
        share(name, whole, floor, "its floor", "s", at_most(case.most)),
        share(f"{name}: coordinator's CPU", cpu, least, "its floor's", "ms", goal),
    ]


class _Floor:
    """What no round of this design can do without."""

    def __init__(self, raw: RawServer, folder: Path, numel: int, case: Case) -> None:
        self._raw = raw
        self._folder = folder
        self._model = np.ones(numel, np.float32)
        self._sums = np.empty(numel, np.float64)
        random = np.random.default_rng(0)
        kept = np.flatnonzero(random.random(numel, np.float32) < case.density).astype(np.int32)
        self._kept = kept if case.density < 1 else None
        self._values = np.ones(len(kept), np.float32)
        self._magnitudes = random.random(len(kept), np.float32)
        self._prunes = case.prunes
        self.cpu: list[float] = []
        """Of every round the ms that the coordinator's part takes: to send, to receive, to put together, to write."""

    def round(self) -> None:
        """Send to every worker, have what it returns on disk, and put it together."""
        before = _cpu_of(self._raw.pid)
        for _ in range(WORKERS):
            self._move()  # gathered for the download, scattered into the model, gathered again
            if self._prunes:
                np.partition(self._magnitudes, round(self._prunes * len(self._magnitudes)))
            self._raw.grpc_down()
            self._raw.grpc_up_to_disk()
        start = time.process_time()
        self._sums[:] = 0
        for _ in range(WORKERS):
            self._add(self._values)
            if self._prunes:
                self._write(self._model[: len(self._model) // 32])  # the new mask's bits
        np.divide(self._sums, WORKERS, out=self._model, casting="unsafe")
        self._write(self._model)
        for _ in range(_COMMITS):
            self._write(self._model[:1024])  # of a transaction's log
        self.cpu.append(1000 * (time.process_time() - start + _cpu_of(self._raw.pid) - before))

    def _move(self) -> None:
        if self._kept is not None:
            np.take(self._model, self._kept, out=self._values, mode="clip")
            self._model[:] = 0
            self._model[self._kept] = self._values
            np.take(self._model, self._kept, out=self._values, mode="clip")

    def _add(self, values: npt.NDArray[np.float32]) -> None:
        if self._kept is None:
            self._sums += values
        else:
            self._sums[self._kept] += values

    def _write(self, values: npt.NDArray[np.float32]) -> None:
        with (self._folder / "file").open("wb") as file:
            file.write(values.data)
            file.flush()
            os.fsync(file.fileno())


def _cpu_of(pid: int) -> float:
    """Return the seconds that a process has computed."""
    return time.clock_gettime(~pid << 3 | 2)  # as clock_getcpuclockid(3) has it on Linux
