"""How a connection ends."""

import pytest

from lotteryfl.client.connection import Connection


@pytest.mark.parametrize(("error", "closes"), [(ValueError, 1), (KeyboardInterrupt, 0)])
def test_an_interrupt_does_not_wait_for_calls_that_it_has_struck(
    error: type[BaseException], closes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    connection = Connection("127.0.0.1:1", patience=1.0)
    monkeypatch.setattr(connection._channel, "close", lambda: closed.append(True))
    with pytest.raises(error), connection:
        raise error
    assert closed == [True] * closes
