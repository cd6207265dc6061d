"""Work that goes on beside what gives it, in a thread, in the order in which it is given."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

_TOGETHER = 1 << 20
"""Bytes whose work is given to the thread as one: for each of many small pieces it would have to be woken."""

_MOST_WAITING = 16 << 20
"""Bytes that may wait for the thread."""

Work = Callable[[], object]


class Beside:
    """One thread, for as long as the block runs, that works on bytes while more of them are made."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._gathered: list[Work] = []
        self._bytes = 0
        self._given: deque[tuple[Future[None], int]] = deque()

    def give(self, nbytes: int, work: Work) -> None:
        """Have work done on so many bytes, when all before is; wait first where too many wait already."""
        self._gathered.append(work)
        self._bytes += nbytes
        if self._bytes < _TOGETHER:
            return
        while self._given and self._bytes + sum(size for _, size in self._given) > _MOST_WAITING:
            self._given.popleft()[0].result()
        self._given.append((self._thread.submit(_do, self._gathered), self._bytes))
        self._gathered, self._bytes = [], 0

    def finish(self) -> None:
        """Wait until all is done; raises what the work has raised."""
        while self._given:
            self._given.popleft()[0].result()
        _do(self._gathered)
        self._gathered, self._bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()


def _do(work: list[Work]) -> None:
    for piece in work:
        piece()
    work.clear()
