"""The coordinator's thread: in order, many in one visit, and no answer before what was written is on disk."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import pytest

from lotteryfl.server.rpc.visits import Visits

T = TypeVar("T")


class Thread:
    """What was done in the thread, in order; brackets are around what waits for the disk together."""

    def __init__(self, error: Exception | None = None) -> None:
        self.visits = Visits(self._together)
        self.done = ""
        self._error = error
        self._is_held, self._may_go_on = threading.Event(), threading.Event()

    def do(self, what: str) -> str:
        self.done += what
        return what

    def call(self, what: str, *, alone: bool = False) -> "asyncio.Future[str]":
        return self.visits.call(partial(self.do, what), alone=alone)

    async def held(self, leave: Coroutine[Any, Any, T]) -> T:
        """Have all be left while the thread is held up, which it is before it does anything of that."""
        self.visits.post(self._hold)
        await asyncio.to_thread(self._is_held.wait)
        result = asyncio.ensure_future(leave)
        await asyncio.sleep(0)
        self._may_go_on.set()
        return await result

    def _hold(self) -> None:
        self._is_held.set()
        self._may_go_on.wait()

    @contextmanager
    def _together(self) -> Iterator[None]:
        self.done += "("
        yield
        self.done += ")"
        if self._error is not None:
            raise self._error


def test_what_is_left_at_once_is_done_in_one_visit_and_in_order() -> None:
    thread = Thread()

    async def leave() -> list[str]:
        calls = [thread.call("a"), thread.call("b")]
        thread.visits.post(partial(thread.do, "c"))
        return list(await asyncio.gather(*calls, thread.call("d", alone=True), thread.call("e"), thread.call("f")))

    assert asyncio.run(thread.held(leave())) == ["a", "b", "d", "e", "f"]
    assert thread.done == "(abc)d(ef)"


def test_an_error_is_told_to_whom_it_meets_alone() -> None:
    thread = Thread()

    async def leave() -> tuple[str, BaseException | None, str]:
        first, second, third = thread.call("a"), thread.visits.call(partial(int, "none")), thread.call("b")
        await asyncio.wait((first, second, third))
        return first.result(), second.exception(), third.result()

    first, error, third = asyncio.run(thread.held(leave()))
    assert (first, third) == ("a", "b")
    assert isinstance(error, ValueError)


def test_where_the_disk_fails_nobody_is_told_that_it_went_well() -> None:
    error = OSError("the disk is full")
    thread = Thread(error)

    async def leave() -> list[str | BaseException]:
        return list(await asyncio.gather(thread.call("a"), thread.call("b"), return_exceptions=True))

    assert asyncio.run(thread.held(leave())) == [error, error]
    assert thread.done == "(ab)"


def test_whoever_goes_away_before_its_turn_has_asked_for_nothing() -> None:
    thread = Thread()

    async def leave() -> str:
        gone, stays = thread.call("a"), thread.call("b")
        gone.cancel()
        return await stays

    assert asyncio.run(thread.held(leave())) == "b"
    assert thread.done == "(b)"


@pytest.mark.parametrize("callers", [1, 100])
def test_a_visit_ends_for_who_came_early(callers: int) -> None:
    """However many come: each visit answers before the next one begins."""
    thread = Thread()

    async def leave() -> list[str]:
        return list(await asyncio.gather(*(thread.call("a") for _ in range(callers))))

    assert asyncio.run(thread.held(leave())) == ["a"] * callers
    assert max(map(len, thread.done.strip("()").split(")("))) <= 16
