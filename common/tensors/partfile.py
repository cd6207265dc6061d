"""A safetensors file read part by part: neither open nor mapped between two reads, and small in memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.file import check_bool
from lotteryfl.common.tensors.layout import ALIGNMENT, LENGTH_BYTES, data_start, read_layout
from lotteryfl.common.text import quoted

_NOTHING = (0, np.empty(0, np.uint8))
"""Bytes that are held, from an offset on: none."""

_MOST_KINDS = 64
"""Lists of names that are held once for all files that have them."""


class PartFile:
    """The tensors of a file whose header was read and checked; of many such files little but their paths is held.

    Args:
        path: of the file, which must not change meanwhile.
        what: names it in errors that others are to read; without, it is the path.
        ahead: bytes that are read where fewer are asked for, as what is read next lies behind them; no more are held.

    Raises:
        PayloadError: the file is not strictly a safetensors file.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, what: str = "", ahead: int = 0) -> None:
        self._path = path
        self._ahead = ahead
        self._held = _NOTHING
        self._what = what or str(path)
        with _opened(path) as file:
            size = os.fstat(file).st_size
            head = os.pread(file, LENGTH_BYTES, 0)
            head = os.pread(file, data_start(head, size, self._what), 0)
        entries = read_layout(head, size, self._what)
        self._kinds = _kinds(tuple((entry.name, entry.dtype) for entry in entries))
        ends = [0, *(entry.end for entry in entries)]  # each begins where the one before ends
        self._ends = np.array(ends, np.int64) + len(head)

    def __contains__(self, name: object) -> bool:
        return name in self._kinds

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor."""
        return self._kinds[name].dtype

    def numel(self, name: str) -> int:
        """Return how many elements a tensor has."""
        place, dtype = self._kinds[name]
        return int(self._ends[place + 1] - self._ends[place]) // dtype.itemsize

    def read(self, name: str, first: int = 0, last: int | None = None) -> Tensor:
        """Return some of a tensor's elements, in flat order, to be read only.

        Raises:
            PayloadError: it has no such elements, the file has become shorter, or a byte is none of a BOOL tensor.
        """
        place, dtype = self._kinds[name]
        numel = self.numel(name)
        last = numel if last is None else last
        if not 0 <= first <= last <= numel:
            raise PayloadError(f"{self._what}: {quoted(name)}: elements {first} to {last} of {numel} are asked for")
        if first == last:
            return torch.empty(0, dtype=dtype)
        start = int(self._ends[place]) + first * dtype.itemsize
        data = torch.from_numpy(self._content(name, start, start + (last - first) * dtype.itemsize))
        if dtype is torch.bool:
            check_bool(data, name, self._what)
        return data.view(dtype)

    def _content(self, name: str, start: int, end: int) -> npt.NDArray[np.uint8]:
        first, held = self._held
        if not (first <= start and end <= first + held.size):
            first = start - (start % ALIGNMENT if self._ahead else 0)  # whatever lies behind is aligned in memory too
            held = self._read(name, first, min(max(end, first + self._ahead), int(self._ends[-1])))
            self._held = (first, held) if held.size <= self._ahead else _NOTHING
        return held[start - first : end - first]

    def _read(self, name: str, start: int, end: int) -> npt.NDArray[np.uint8]:
        content, taken = np.empty(end - start, np.uint8), 0
        with _opened(self._path) as file:
            while more := os.preadv(file, [content.data[taken:]], start + taken):  # at most 2 GiB at a time
                taken += more
        if taken != content.size:
            raise PayloadError(f"{self._what}: {quoted(name)}: {taken} bytes are there, expected {content.size}")
        return content


class _Kind(NamedTuple):
    """What files of the same names have in common."""

    place: int
    dtype: torch.dtype


@lru_cache(_MOST_KINDS)
def _kinds(entries: tuple[tuple[str, torch.dtype], ...]) -> dict[str, _Kind]:
    return {name: _Kind(place, dtype) for place, (name, dtype) in enumerate(entries)}


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)
