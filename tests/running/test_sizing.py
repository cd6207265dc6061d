"""How many processes a device is found to have, from measurements that are given."""

import pytest

from lotteryfl.running.sizing import COUNTED, LEAST_GAIN, Measured, Sizing

GIB = 1 << 30
SLOW_FIRST = 10.0


def work(sizing: Sizing, seconds: float, **memory: int) -> int:
    """Have every process of a number do what it is counted by, after a first one that takes long."""
    count = sizing.count
    for turn in range(1 + COUNTED):
        for process in range(count):
            taken = seconds if turn else seconds * SLOW_FIRST
            sizing.measured(str(process), Measured(100, taken, **{"host": GIB, **memory}))
    return sizing.count


def test_one_more_is_tried_for_as_long_as_it_raises_the_throughput() -> None:
    """The second and the third get as much done as the first; the fourth makes all of them slower."""
    sizing = Sizing(most=8, host_share=64 * GIB)
    assert [work(sizing, 1.0), work(sizing, 1.0), work(sizing, 1.0), work(sizing, 1.4)] == [2, 3, 4, 3]
    assert sizing.why == "4 do 0.95 times the work of 3"
    assert work(sizing, 0.1) == 3


@pytest.mark.parametrize(("gain", "expected"), [(1.01 * LEAST_GAIN, 3), (0.99 * LEAST_GAIN, 1)])
def test_a_process_that_hardly_helps_leaves(gain: float, expected: int) -> None:
    sizing = Sizing(most=8, host_share=64 * GIB)
    work(sizing, 1.0)
    assert work(sizing, 2 / gain) == expected


@pytest.mark.parametrize(
    ("free", "held", "expected"),
    [
        (50, 20, 2),  # of the 50 that are taken, 20 by the allocator, and 30 beside it
        (49, 20, 1),
        (100, 0, 2),
        (0, 0, 1),
    ],
)
def test_one_more_has_to_fit_on_the_device_with_what_is_beside_its_tensors(free: int, held: int, expected: int) -> None:
    sizing = Sizing(most=8, host_share=64 * GIB)
    assert work(sizing, 1.0, free=free, held=held, total=100) == expected
    assert sizing.why == ("" if expected == 2 else "one more would not fit: the device's memory")


def test_what_several_hold_is_theirs_and_not_beside() -> None:
    """Of 100, two hold 20 each and 5 beside: one more fits into 50, and not into 24."""
    for free, total, expected in ((50, 100, 3), (24, 74, 2)):
        sizing = Sizing(most=8, host_share=64 * GIB)
        work(sizing, 1.0, free=75, held=20, total=100)
        assert work(sizing, 1.0, free=free, held=20, total=total) == expected


def test_one_more_has_to_fit_into_the_machine() -> None:
    sizing = Sizing(most=8, host_share=3 * GIB)
    assert [work(sizing, 1.0), work(sizing, 1.0), work(sizing, 1.0)] == [2, 3, 3]
    assert sizing.why == "one more would not fit: the machine's memory"


def test_more_than_the_most_are_not_tried() -> None:
    sizing = Sizing(most=2, host_share=64 * GIB)
    assert [work(sizing, 1.0), work(sizing, 1.0)] == [2, 2]
    assert sizing.why == "more than 2 are not tried"


def test_nothing_is_decided_before_every_process_has_been_counted() -> None:
    sizing = Sizing(most=8, host_share=64 * GIB)
    work(sizing, 1.0)
    for _ in range(5 * COUNTED):
        assert sizing.measured("0", Measured(100, 1.0, GIB)) == 2
    for _ in range(COUNTED):
        assert sizing.measured("1", Measured(100, 1.0, GIB)) == 2
    sizing.begin_again("1")
    for _ in range(COUNTED):
        assert sizing.measured("1", Measured(100, 1.0, GIB)) == 2, "it was started again, and warms up"
    assert sizing.measured("1", Measured(100, 1.0, GIB)) == 3


def test_where_memory_is_short_there_is_one_less_and_never_none() -> None:
    sizing = Sizing(most=8, host_share=64 * GIB)
    work(sizing, 1.0)
    work(sizing, 1.0)
    assert [sizing.come_down("short"), work(sizing, 1.0), sizing.come_down("short"), sizing.come_down("again")] == [
        2,
        2,
        1,
        1,
    ]
    assert sizing.why == "short"


def test_a_first_process_that_is_short_stays_alone() -> None:
    sizing = Sizing(most=8, host_share=64 * GIB)
    assert [sizing.come_down("short"), work(sizing, 1.0)] == [1, 1]
