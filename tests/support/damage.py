"""Means to damage a run directory, and what verification says of it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from torch import Tensor

from lotteryfl.common.tensors.file import open_file, save
from lotteryfl.server.results.verify import verify

TICKET = "results/r3-c0-a1.safetensors"
"""Of client 0, in the finished run."""


def problems(path: Path) -> list[str]:
    return [str(problem) for group in verify(path).groups for problem in group.problems]


def edit(path: Path, *queries: str) -> None:
    with closing(sqlite3.connect(path / "run.db", isolation_level=None)) as connection:
        for query in queries:
            connection.execute(query)


@contextmanager
def rewritten(file: Path) -> Iterator[dict[str, Tensor]]:
    """A safetensors file whose tensors may be changed and replaced."""
    tensors = {name: tensor.clone() for name, tensor in open_file(file).items()}
    yield tensors
    save(file, tensors)


def flip(file: Path, offset: int = -1) -> None:
    raw = bytearray(file.read_bytes())
    raw[offset] ^= 1
    file.write_bytes(raw)
