"""A stream that stands still is cancelled, one that moves is not."""

import threading
from collections.abc import Iterator

import pytest

from lotteryfl.client.idlewatch import IdleWatch
from tests.support.waiting import DEADLINE


class Call:
    """A call that notes that it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> bool:
        self.cancelled.set()
        return True


def slowly(count: int, gap: float) -> Iterator[int]:
    for number in range(count):
        threading.Event().wait(gap)
        yield number


def test_a_stream_that_stands_still_is_cancelled() -> None:
    call = Call()
    with IdleWatch(0.05).guarding(call):
        assert call.cancelled.wait(DEADLINE)


def test_a_stream_that_stops_moving_is_cancelled() -> None:
    call, watch = Call(), IdleWatch(2.0)
    with watch.guarding(call):
        assert list(watch.over(range(3))) == [0, 1, 2]
        assert not call.cancelled.is_set()
        assert call.cancelled.wait(DEADLINE)


def test_a_stream_that_moves_may_take_any_time() -> None:
    call, watch = Call(), IdleWatch(3.0)
    with watch.guarding(call):
        assert list(watch.over(slowly(8, 0.5))) == list(range(8))  # a third longer than it may stand still
    assert not call.cancelled.is_set()


def test_a_block_that_is_left_early_cancels_its_call() -> None:
    call = Call()
    with pytest.raises(RuntimeError, match="left"), IdleWatch(60).guarding(call):
        raise RuntimeError("left")
    assert call.cancelled.is_set()


def test_the_watch_ends_with_its_block() -> None:
    before = threading.active_count()
    call = Call()
    with IdleWatch(60).guarding(call):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert not call.cancelled.is_set()
