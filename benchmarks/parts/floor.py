"""Rounds of 2 workers that train next to nothing beside their floor: bytes over gRPC to disk, fsyncs, one pass."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
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


_FEDAVG = {"name": "fedavg"}
PRUNED = {"prune_rate": 0.9, "target_density": 0.1, "accuracy_threshold": 0.0}
FULL = (
    6,
    (
        Case("1 M in 62 tensors", 1.0, _FEDAVG, 1.2),
        Case("11 M", 1.0, _FEDAVG, 1.15),
        Case("11 M", 0.1, PRUNED, 1.7),
    ),
)
QUICK = (2, (Case("20 k", 0.1, PRUNED, 1.7),))


def rows(sizes: tuple[int, tuple[Case, ...]]) -> list[Row]:
    """Seconds of a round of every case."""
    rounds, cases = sizes
    return [_row(rounds, case) for case in cases]


def _row(rounds: int, case: Case) -> Row:
    laps, _, payload = run_rounds(Sizes(WORKERS, case.model, rounds), case.strategy)
    whole = Spread(tuple(lap.seconds for lap in laps))
    numel = sum(tensor.numel() for tensor in MODELS[case.model]().state_dict().values())
    with RawServer(payload, keep_memory=True) as raw, tempfile.TemporaryDirectory() as folder:
        work = _Floor(raw, Path(folder), numel, case.density)
        floor = interleaved(len(laps), floor=seconds(work.round))["floor"]
    dense = "dense" if case.density == 1 else f"at density {case.density:g}"
    return share(f"round of {WORKERS} × {case.model}, {dense}", whole, floor, "its floor", "s", at_most(case.most))


class _Floor:
    """What no round of this design can do without."""

    def __init__(self, raw: RawServer, folder: Path, numel: int, density: float) -> None:
        self._raw = raw
        self._folder = folder
        self._model = np.ones(numel, np.float32)
        self._sums = np.empty(numel, np.float64)
        random = np.random.default_rng(0)
        kept = np.flatnonzero(random.random(numel, np.float32) < density).astype(np.int32)
        self._kept = kept if density < 1 else None
        self._values = np.ones(len(kept), np.float32)

    def round(self) -> None:
        """Send to every worker, have what it returns on disk, and put it together."""
        for _ in range(WORKERS):
            self._move()  # gathered for the download, scattered into the model, gathered again
            self._raw.grpc_down()
            self._raw.grpc_up_to_disk()
        self._sums[:] = 0
        for _ in range(WORKERS):
            self._add(self._values)
        np.divide(self._sums, WORKERS, out=self._model, casting="unsafe")
        self._write(self._model)
        for _ in range(_COMMITS):
            self._write(self._model[:1024])  # of a transaction's log

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
