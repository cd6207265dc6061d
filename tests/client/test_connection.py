"""How a connection ends, and what its tries leave alone."""

import random
import threading

import pytest

from lotteryfl.client.connection import Connection
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.names import WorkerId
from tests.support.processes import free_port
from tests.support.waiting import DEADLINE


@pytest.mark.parametrize(("error", "closes"), [(ValueError, 1), (KeyboardInterrupt, 0)])
def test_an_interrupt_does_not_wait_for_calls_that_it_has_struck(
    error: type[BaseException], closes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    connection = Connection("127.0.0.1:1", patience=1.0)
    monkeypatch.setattr(connection._channels, "close", lambda: closed.append(True))
    with pytest.raises(error), connection:
        raise error
    assert closed == [True] * closes


def test_pauses_are_not_drawn_from_the_generator_that_a_task_draws_from() -> None:
    """Another thread's work goes on meanwhile, and its draws are part of the bits."""
    state = random.getstate()
    with Connection(f"127.0.0.1:{free_port()}", patience=0.3) as connection, pytest.raises(LotteryFLError):
        connection.fetch_assignment(WorkerId("w"), 1)
    assert random.getstate() == state


def test_whoever_hangs_up_has_no_calls_tried_again() -> None:
    errors: list[LotteryFLError] = []

    def fetch() -> None:
        try:
            connection.fetch_assignment(WorkerId("w"), 1)
        except LotteryFLError as error:
            errors.append(error)

    with Connection(f"127.0.0.1:{free_port()}", patience=10 * DEADLINE) as connection:
        fetching = threading.Thread(target=fetch)
        fetching.start()
        connection.hang_up()
        fetching.join(DEADLINE)
        assert len(errors) == 1
