"""Who only looks is answered in the coordinator's thread, and hears at once that the run is not served any more."""

import threading

import pytest

from lotteryfl.server.rpc.served import ServedRun
from tests.conftest import Drive


def test_the_coordinators_thread_answers_until_the_run_is_closed(drive: Drive) -> None:
    served = ServedRun(drive().run, most_departed=1)
    assert served.answer(threading.current_thread).name.startswith("coordinator")
    assert served.answer(lambda: served.coordinator.tally().state) == "running"
    served.close()
    with pytest.raises(RuntimeError):
        served.answer(threading.current_thread)
