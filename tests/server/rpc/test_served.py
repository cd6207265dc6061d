"""A run while it is served: who closes it waits for the coordinator's thread."""

import threading
from pathlib import Path

from lotteryfl.server.rpc.served import ServedRun
from tests.support.bench import TinyTask, create, tiny_experiment
from tests.support.waiting import DEADLINE


def test_nothing_is_under_way_when_a_served_run_has_been_closed(tmp_path: Path) -> None:
    """SQLite's connection is not to be closed under a commit: the process would crash."""
    with create(tmp_path / "run", tiny_experiment(), TinyTask()) as run:
        served = ServedRun(run, most_departed=1)
        begun, released, done = (threading.Event() for _ in range(3))

        def commit() -> None:
            begun.set()
            released.wait(DEADLINE)
            done.set()

        served.post(commit)
        served.post(lambda: released.wait(DEADLINE))  # has not begun: nobody waits for it
        assert begun.wait(DEADLINE)
        closing = threading.Thread(target=served.close)
        closing.start()
        assert not done.is_set()
        released.set()
        closing.join(DEADLINE)
        assert done.is_set()


def test_a_call_that_is_cut_at_the_end_has_nothing_noted_any_more(tmp_path: Path) -> None:
    """Such a call cleans up when the coordinator's thread has ended, and that is no error."""
    with create(tmp_path / "run", tiny_experiment(), TinyTask()) as run:
        served, noted = ServedRun(run, most_departed=1), threading.Event()
        served.close()
        served.post(noted.set)
        assert not noted.is_set()
