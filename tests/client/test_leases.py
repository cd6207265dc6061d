"""What a worker has in hand: who waits for what, and what an end of any kind leaves."""

import signal
import sys
import threading
from types import FrameType

import pytest

from lotteryfl.client.leases import Lease, Leases
from lotteryfl.client.work.handover import Ready
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.waiting import DEADLINE, until


def lease(id_: str) -> Lease:
    return Lease(pb.Assignment(assignment_id=id_), Ready({}, None, {}))


def in_hand(leases: Leases) -> list[str]:
    return [each.id for each in leases.all()]


def two() -> tuple[Leases, Lease, Lease]:
    """What is under work, and what is ahead."""
    leases, first, second = Leases(2), lease("first"), lease("second")
    leases.add(first)
    leases.add(second)
    assert leases.begin() == [first]
    return leases, first, second


def test_the_work_is_in_the_order_of_leasing_and_there_is_room_when_one_has_ended() -> None:
    leases, first, second = two()
    assert leases.is_at_work
    fetching = threading.Thread(target=lambda: leases.wait_for_room() and leases.add(lease("third")))
    fetching.start()
    assert leases.begin() == [second]
    assert in_hand(leases) == ["first", "second"]
    leases.end(first)
    fetching.join(DEADLINE)
    assert in_hand(leases) == ["second", "third"]


def test_what_was_not_begun_is_lost_at_once_and_what_is_under_work_at_its_next_step() -> None:
    leases, first, _ = two()
    leases.lose(["first", "second"])
    assert in_hand(leases) == ["first"]
    assert first.is_lost
    assert leases.wait_for_room()


def test_the_run_is_over_when_all_is_returned() -> None:
    leases, first, second = two()
    leases.no_more()
    assert not leases.wait_for_room()
    assert leases.begin() == [second]
    threading.Thread(target=lambda: (leases.end(first), leases.end(second))).start()
    assert leases.begin() == []


def test_an_error_of_fetching_waits_for_what_is_under_work_and_drops_what_is_not() -> None:
    leases, first, _ = two()
    leases.no_more(LotteryFLError("refused"))
    assert in_hand(leases) == ["first"]
    leases.add(lease("late"))
    threading.Thread(target=lambda: leases.end(first)).start()
    with pytest.raises(LotteryFLError, match="refused"):
        leases.begin()
    assert not leases.is_at_work


def test_an_error_of_returning_ends_the_work() -> None:
    leases, first, _ = two()
    leases.fail(LotteryFLError("unreachable"))
    assert first.is_lost
    assert leases.is_at_work, "its attempt counts"
    with pytest.raises(LotteryFLError, match="unreachable"):
        leases.begin()
    assert not leases.wait_for_room()


def test_why_no_more_come_goes_before_why_nothing_can_be_returned() -> None:
    leases, _, _ = two()
    leases.no_more(LotteryFLError("the run failed"))
    leases.fail(LotteryFLError("unreachable"))
    with pytest.raises(LotteryFLError, match="the run failed"):
        leases.begin()


class _Stopped(Exception):  # noqa: N818 - as KeyboardInterrupt is none
    pass


def test_a_signal_that_does_not_interrupt_the_wait_for_work_is_looked_at_all_the_same() -> None:
    """As one does that comes just as the wait begins; here it comes to another thread than the one that waits."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Stopped

    leases, waits = Leases(1), threading.main_thread().ident
    seen: list[bool] = []

    def signal_once_it_waits() -> None:
        begins.wait(DEADLINE)
        until(lambda: sys._current_frames()[waits or 0].f_code is threading.Condition.wait.__code__)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        seen.append(stopped.wait(DEADLINE))
        leases.no_more()

    before, begins, stopped = signal.signal(signal.SIGUSR1, stop), threading.Event(), threading.Event()
    other = threading.Thread(target=signal_once_it_waits)
    try:
        other.start()
        begins.set()
        with pytest.raises(_Stopped):
            leases.begin()
    finally:
        stopped.set()
        other.join()
        signal.signal(signal.SIGUSR1, before)
    assert seen == [True]
