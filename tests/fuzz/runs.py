"""Run directories to damage: the same bytes each time, so that an input means the same tomorrow."""

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

import torch

from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.summary import write_summary
from tests.fuzz.folder import folder
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment

Files = dict[str, bytes]
"""By name in the run directory."""

_TIMES = """
PRAGMA journal_mode = DELETE;
UPDATE run SET value = '0123456789abcdef' WHERE key = 'run_id';
UPDATE rounds SET opened_at = '2025-01-01T00:00:00.000Z';
UPDATE rounds SET committed_at = opened_at WHERE committed_at IS NOT NULL;
UPDATE results SET seconds = 1;
VACUUM;
"""


class LiveRun:
    """A run directory that is damaged for an input and is as before after it."""

    def __init__(self, files: Files, path: Path) -> None:
        self.path = path
        self.files = files
        """As they are without damage."""
        self.names = (*files, "run.db-wal", ".setup")
        """Those that may be damaged: two that are not there in the beginning too."""
        self._damaged = set(self.names)
        self.restore()

    def damaged(self, name: str) -> Path:
        """Return a file that is about to be damaged."""
        self._damaged.add(name)
        return self.path / name

    def restore(self) -> None:
        for name in (*self._damaged, "run.db-shm", "run.db-journal"):
            (self.path / name).unlink(missing_ok=True)  # a new file: the old one may still be open and locked
            if name in self.files:
                (self.path / name).write_bytes(self.files[name])
        self._damaged.clear()


@cache
def finished() -> LiveRun:
    """Return a finished run of 4 clients, 2 rounds of 3 and the final one of all."""
    path = folder() / "finished"
    with simulated(path, tiny_experiment()) as run:
        write_summary(run)
    return LiveRun(_fixed(path), path)


@cache
def interrupted() -> tuple[LiveRun, pb.Result, bytes]:
    """Return an interrupted run, whose second round has a result and a lease; and a further result with its file."""
    path = folder() / "interrupted"
    bench = Bench(path, tiny_experiment(wire_dtype="int8"), TinyTask())
    worker = bench.register()
    bench.do_all(worker)
    bench.commit()
    bench.submit(worker, bench.do(bench.take(worker)))
    answer = bench.do(bench.take(worker))
    bench.close()
    answer.result.metrics.seconds = 1
    return LiveRun(_fixed(path), path), answer.result, _bytes(answer.entries)


def _fixed(path: Path) -> Files:
    with closing(sqlite3.connect(path / "run.db", isolation_level=None)) as connection:
        connection.executescript(_TIMES)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def _bytes(entries: dict[str, torch.Tensor]) -> bytes:
    return b"".join(TensorStream(entries))
