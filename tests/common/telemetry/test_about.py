"""What is being worked on, over threads and contexts."""

import queue

import pytest

from lotteryfl.common.telemetry.about import about, bind, fields, named_in, thread


def test_fields_are_those_of_all_blocks_around() -> None:
    with about(run="x", round=1):
        with about(client=2, round=3):
            assert fields() == {"run": "x", "round": 3, "client": 2}
        assert fields() == {"run": "x", "round": 1}
    assert fields() == {}


def test_a_thread_knows_what_its_maker_is_about_and_keeps_what_it_binds_to_itself() -> None:
    seen: queue.SimpleQueue[object] = queue.SimpleQueue()

    def work() -> None:
        bind(client=1)
        seen.put(fields())

    with about(run="x"):
        worker = thread(work, "worker")
        worker.start()
        worker.join()
        assert fields() == {"run": "x"}
    assert seen.get() == {"run": "x", "client": 1}


@pytest.mark.parametrize(
    "text", ["", "r1", "r1-c2", "r1-c2-a3\n", "r1-c2-a3 ", "r-1-c2-a3", f"r{'1' * 10}-c2-a3", "r١-c2-a3"]
)
def test_only_an_assignments_id_names_one(text: str) -> None:
    assert named_in(text) == {}


def test_an_assignments_id_names_round_and_client() -> None:
    assert named_in("r12-c0-a3") == {"round": 12, "client": 0, "assignment": "r12-c0-a3"}
