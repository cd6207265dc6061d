"""Work beside what gives it: in order, bounded, and its errors are not lost."""

import threading
from functools import partial

import pytest

from lotteryfl.common.beside import Beside

MIB = 1 << 20


def test_all_is_done_in_the_order_in_which_it_was_given() -> None:
    done: list[int] = []
    with Beside() as beside:
        for number in range(100):
            beside.give(MIB // 3, partial(done.append, number))
        beside.finish()
    assert done == list(range(100))


def test_who_gives_more_than_may_wait_waits() -> None:
    told: list[str] = []

    def slow() -> None:
        threading.Event().wait(0.05)  # long enough for who does not wait to be first
        told.append("done")

    with Beside() as beside:
        beside.give(10 * MIB, slow)
        beside.give(10 * MIB, lambda: None)
        told.append("given")
        beside.finish()
    assert told == ["done", "given"]


@pytest.mark.parametrize("nbytes", [1, 2 * MIB])
def test_an_error_is_that_of_finish(nbytes: int) -> None:
    def fail() -> None:
        raise OSError("no disk")

    with Beside() as beside:
        beside.give(nbytes, fail)
        with pytest.raises(OSError, match="no disk"):
            beside.finish()
