"""The coordinator's one thread: what is asked of it is left here, and what is left at once is done in one visit."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

Outcome = tuple[object, BaseException | None]
"""What a function has returned, or raised."""

_MOST = 16
"""Functions of a visit: the first one's caller waits for the last one."""


class _Visitor(NamedTuple):
    """A function that waits to be called."""

    function: Callable[[], object]
    answer: asyncio.Future[Any] | None
    """Of what it returns; None: nobody waits for it."""
    alone: bool


class Visits:
    """Calls functions in a thread, in the order in which they are left, and answers when what they wrote is on disk."""

    def __init__(self, together: Callable[[], AbstractContextManager[None]]) -> None:
        """Begin with none.

        Args:
            together: what is written within it waits for the disk once, at its end.
        """
        self._together = together
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="coordinator")
        self._lock = threading.Lock()
        self._waiting: deque[_Visitor] = deque()
        self._is_open = False  # somebody is in the thread, and looks for more before leaving it

    def call(self, function: Callable[[], T], *, alone: bool = False) -> "asyncio.Future[T]":
        """Return the answer of a function, to be awaited; one whose answer is cancelled before its turn is not called.

        Args:
            function: what to call.
            alone: nothing is done between it and the disk: others look at what it changes, and do not ask for it here.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._leave(_Visitor(function, answer, alone))
        return answer

    def post(self, function: Callable[[], object]) -> None:
        """Have a function called before all that is left from now on; nobody waits for it."""
        self._leave(_Visitor(function, None, alone=False))

    def _leave(self, visitor: _Visitor) -> None:
        with self._lock:
            self._waiting.append(visitor)
            if self._is_open:
                return
            self._is_open = True
        self._thread.submit(self._work)

    def _work(self) -> None:
        while visitors := self._next():
            _deliver([(visitor.answer, *outcome) for visitor, outcome in self._visit(visitors) if visitor.answer])

    def _next(self) -> list[_Visitor]:
        """Return who is called next: those up to the first that is to be alone, or that one."""
        with self._lock:
            visitors: list[_Visitor] = []
            while self._waiting and len(visitors) < _MOST and not (visitors and self._waiting[0].alone):
                visitors.append(self._waiting.popleft())
                if visitors[0].alone:
                    break
            self._is_open = bool(visitors)
            return visitors

    def _visit(self, visitors: list[_Visitor]) -> list[tuple[_Visitor, Outcome]]:
        if len(visitors) == 1:
            return [(visitors[0], _outcome(visitors[0]))]
        outcomes: list[Outcome] = []
        try:
            with self._together():
                outcomes.extend(map(_outcome, visitors))
        except Exception as error:  # what was to be on disk is perhaps not: nobody is told otherwise
            outcomes = [(None, error)] * len(visitors)
        return list(zip(visitors, outcomes, strict=True))


def _outcome(visitor: _Visitor) -> Outcome:
    if visitor.answer is not None and visitor.answer.cancelled():
        return None, None
    try:
        return visitor.function(), None
    except BaseException as error:  # whoever asked is told
        return None, error


def _deliver(answers: list[tuple[asyncio.Future[Any], object, BaseException | None]]) -> None:
    if answers:
        with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
            answers[0][0].get_loop().call_soon_threadsafe(_answer, answers)


def _answer(answers: list[tuple[asyncio.Future[Any], object, BaseException | None]]) -> None:
    for answer, result, error in answers:
        if answer.done():
            continue
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
