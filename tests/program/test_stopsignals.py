"""A terminal that goes away stops a command, unless whoever started it said otherwise."""

import signal

from lotteryfl.stopsignals import stop_signals


def test_a_hangup_stops_unless_it_is_ignored() -> None:
    assert stop_signals() == (signal.SIGTERM, signal.SIGHUP)
    found = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert stop_signals() == (signal.SIGTERM,)
    finally:
        signal.signal(signal.SIGHUP, found)
