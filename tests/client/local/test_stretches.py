"""For how long each phase trains."""

import re

import pytest

from lotteryfl import Phase
from lotteryfl.client.local.stretches import check_length, stretches
from lotteryfl.common.errors import TaskError

OPEN = Phase()


@pytest.mark.parametrize(
    ("length", "most", "in_steps", "message"),
    [
        (3, 2, False, "phases(): 3 epochs, expected at most 2 (--max-epochs)"),
        (2001, 2, True, "phases(): 2001 steps, expected at most 2000 (--max-epochs)"),
    ],
)
def test_no_phases_train_longer_than_the_workers_operator_allows(
    length: int, most: int, in_steps: bool, message: str
) -> None:
    check_length("phases()", length - 1, most, in_steps=in_steps)
    check_length("phases()", length, None, in_steps=in_steps)
    with pytest.raises(TaskError, match=re.escape(message)):
        check_length("phases()", length, most, in_steps=in_steps)


@pytest.mark.parametrize(
    ("phases", "length", "in_steps", "expected"),
    [
        ((OPEN,), 5, False, [(5, 0, 0, False)]),
        ((OPEN, OPEN), 5, False, [(3, 0, 2, False), (2, 3, 0, False)]),
        ((OPEN, Phase(epochs=4), OPEN), 2, False, [(1, 0, 5, False), (4, 1, 1, False), (1, 5, 0, False)]),
        ((OPEN, Phase(steps=4)), 7, True, [(7, 0, 4, True), (4, 7, 0, True)]),
        ((Phase(steps=2), Phase(steps=3)), 5, False, [(2, 0, 3, True), (3, 2, 0, True)]),
        ((Phase(epochs=2),), 50, True, [(2, 0, 0, False)]),
    ],
)
def test_phases_that_do_not_say_share_what_the_plan_says(
    phases: tuple[Phase, ...], length: int, in_steps: bool, expected: list[tuple[int, int, int, bool]]
) -> None:
    found = stretches(phases, length, in_steps=in_steps)
    assert [(each.length, each.before, each.after, each.in_steps) for each in found] == expected
    assert tuple(each.phase for each in found) == phases


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ((OPEN, OPEN, OPEN), "2 epochs of the plan are divided among 3 phases: expected one for each"),
        ((OPEN, Phase(steps=3)), "steps=3): the plan's length is in epochs: expected all phases in epochs"),
        ((Phase(steps=3), Phase(epochs=3)), "the first phase's length is in steps: expected all phases in steps"),
        ((Phase(steps=3, epochs=3),), "steps=3): expected epochs or steps, not below 0"),
        ((Phase(epochs=-1),), "expected epochs or steps, not below 0"),
    ],
)
def test_lengths_that_do_not_go_together_are_named(phases: tuple[Phase, ...], message: str) -> None:
    with pytest.raises(TaskError, match=re.escape(message)):
        stretches(phases, 2, in_steps=False)
