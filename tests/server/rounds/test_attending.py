"""A strategy that goes by who is there: what was seen is on record before it is used, and a round waits for clients."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lotteryfl.common.errors import ExperimentError
from lotteryfl.comparing.cells import plan_cells
from lotteryfl.server.results.finaltable import final_table
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.store.rundb.events import newest_events
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.fedavg import FedAvg
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment
from tests.support.damage import edit, problems

pytestmark = pytest.mark.usefixtures("attending")


class Attending(FedAvg):
    name = "attending"
    attends = True


@pytest.fixture
def attending(own_strategies: None) -> None:
    del own_strategies
    STRATEGIES["attending"] = Attending


def bench_at(path: Path, **changes: Any) -> Bench:
    """Three of six clients a round."""
    settings = {"clients": 6, "clients_per_round": 3, "strategy": {"name": "attending"}, **changes}
    return Bench(path, tiny_experiment(**settings), TinyTask())


def held(bench: Bench) -> list[tuple[int, str | None]]:
    return bench.run.database.select("SELECT round, held FROM rounds ORDER BY round").fetchall()


def clients(bench: Bench, round_: int) -> list[int]:
    return [row.client for row in bench.run.database.assignments(round_)]


def test_a_round_is_opened_when_as_many_clients_are_there_as_are_drawn(tmp_path: Path) -> None:
    bench = bench_at(tmp_path / "run")
    assert bench.coordinator.advance() is Step.WAIT
    first = bench.register("first", clients={1, 5})
    assert bench.coordinator.advance() is Step.WAIT
    assert bench.coordinator.lease(first) is None
    assert held(bench) == []
    said = "round 1 waits for workers that hold 3 clients: those that are there hold 2"
    assert bench.coordinator.status().reason == said
    second = bench.register("second", clients={2, 3})
    assert bench.coordinator.advance() is Step.OFFER
    assert bench.coordinator.status().reason == ""
    assert held(bench) == [(1, "1-3,5")]
    assert len(clients(bench, 1)) == 3
    assert set(clients(bench, 1)) < {1, 2, 3, 5}
    for worker in (first, second):
        bench.do_all(worker)
    bench.commit()
    assert held(bench) == [(1, "1-3,5"), (2, "1-3,5")], "who is there is there at once"
    bench.close()


def test_who_is_drained_does_not_wait_to_open_a_round(tmp_path: Path) -> None:
    bench = bench_at(tmp_path / "run")
    assert bench.coordinator.advance() is Step.WAIT
    bench.coordinator.steering.drain("anna", "")
    bench.register("all")
    assert bench.coordinator.advance() is Step.ENDED
    assert (bench.coordinator.is_over, bench.coordinator.state, held(bench)) == (True, "running", [])
    assert [event.kind for event in newest_events(bench.run.database)][-1] == "drained"
    assert bench.restart().finish().coordinator.state == "finished"
    bench.close()


def test_after_a_lease_time_it_is_opened_with_whom_there_is_and_never_with_nobody(tmp_path: Path) -> None:
    bench = bench_at(tmp_path / "run")
    bench.now = 1000.0
    assert bench.coordinator.advance() is Step.WAIT
    bench.close()

    bench = bench_at(tmp_path / "one")
    worker = bench.register("w", clients={4})
    bench.now = 9.0
    bench.coordinator.heartbeat(worker, [])
    assert bench.coordinator.advance() is Step.WAIT
    bench.now = 10.0
    assert bench.coordinator.advance() is Step.OFFER
    assert (held(bench), clients(bench, 1)) == ([(1, "4")], [4])
    bench.close()


def test_who_was_not_heard_of_for_a_lease_time_is_not_there(tmp_path: Path) -> None:
    bench = bench_at(tmp_path / "run")
    bench.register("silent")
    bench.now = 10.5
    there = bench.register("w", clients={0, 1, 2, 3})
    assert bench.coordinator.advance() is Step.OFFER
    assert held(bench) == [(1, "0-3")]
    bench.coordinator.leave(there, "goodbye")
    bench.close()


def test_a_kill_after_the_opening_goes_on_with_what_is_on_record(tmp_path: Path) -> None:
    bench = bench_at(tmp_path / "run")
    bench.register("first", clients={0, 2, 3, 5})
    assert bench.coordinator.advance() is Step.OFFER
    drawn, record = clients(bench, 1), held(bench)
    bench.restart()
    worker = bench.register("second")  # it holds all, and nothing is drawn anew
    assert bench.coordinator.advance() is Step.WAIT
    assert (clients(bench, 1), held(bench)) == (drawn, record)
    bench.do_all(worker)
    bench.commit()
    assert held(bench) == [(1, "0,2-3,5"), (2, "0-5")]
    bits = bench.finish().bits()
    bench.close()

    again = bench_at(tmp_path / "again")
    again.register("first", clients={0, 2, 3, 5})
    again.coordinator.advance()
    again.do_all(again.register("second"))
    again.commit()
    assert again.finish().bits() == bits, "the same attendance gives the same bits"
    again.close()
    assert problems(tmp_path / "run") == []


def test_what_was_seen_is_written_before_it_is_used_and_with_what_comes_of_it(tmp_path: Path) -> None:
    seen: list[object] = []

    class Looking(Attending):
        name = "looking"

        def sample_attending(self, round_: int, held: Sequence[int]) -> list[int]:
            seen.append((list(held), *database.select("SELECT round, held FROM rounds").fetchall()))
            if len(seen) == 1:
                raise OSError("killed")
            return super().sample_attending(round_, held)

    STRATEGIES["looking"] = Looking
    bench = bench_at(tmp_path / "run", strategy={"name": "looking"})
    database = bench.run.database
    bench.register("w", clients={0, 1, 2})
    with pytest.raises(OSError, match="killed"):
        bench.coordinator.advance()
    assert held(bench) == []
    assert bench.coordinator.advance() is Step.OFFER
    assert seen == [([0, 1, 2], (1, "0-2"))] * 2
    bench.close()


def test_who_is_not_there_cannot_be_drawn(tmp_path: Path) -> None:
    class Elsewhere(Attending):
        name = "elsewhere"

        def sample_attending(self, round_: int, held: Sequence[int]) -> list[int]:
            del round_, held
            return [0, 4]

    STRATEGIES["elsewhere"] = Elsewhere
    bench = bench_at(tmp_path / "run", strategy={"name": "elsewhere"})
    bench.register("w", clients={0, 1, 2})
    with pytest.raises(ExperimentError, match=r"'elsewhere': sampled client 4 for round 1, .* hold: 0-2$"):
        bench.coordinator.advance()
    bench.close()


def test_in_one_process_everybody_is_there_and_the_summary_says_what_bits_depend_on(tmp_path: Path) -> None:
    experiment = tiny_experiment(clients=6, strategy={"name": "attending"})
    with simulated(tmp_path / "a", experiment) as run, simulated(tmp_path / "b", experiment) as other:
        assert [h for (h,) in run.database.select("SELECT held FROM rounds ORDER BY round")] == ["0-5", "0-5", None]
        assert summarise(run)["bits_depend_on"] == "attendance"
        assert summarise(run)["tickets_sha256"] == summarise(other)["tickets_sha256"]
        assert "bits depend on attendance" in final_table(run)
    with simulated(tmp_path / "c", tiny_experiment(clients=6, strategy={"name": "fedavg"})) as run:
        assert [h for (h,) in run.database.select("SELECT held FROM rounds ORDER BY round")] == [None] * 3
        assert "bits_depend_on" not in summarise(run)
        assert "attendance" not in final_table(run)


def test_strategies_that_go_by_attendance_are_compared_with_their_like_alone(tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text("")
    for strategies in ("fedavg,attending", "attending,fedavg"):
        with pytest.raises(ExperimentError, match=r"attending draws clients by who is there .* and fedavg does not"):
            plan_cells(path, strategies, "0", [], tmp_path / "out")
    plan_cells(path, "a=attending,b=attending", "0", [], tmp_path / "out")


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("0-2,x", r"round 1, held: '0-2,x': expected numbers and ranges, as in 0-9 or 0,3,7-9"),
        ("0-9999999", r"round 1, held: '0-9999999', expected clients below 6"),
        ("3-5", r"round 1: client \d takes part, expected some of those who were there: 3-5"),
    ],
)
def test_verify_holds_a_round_to_who_was_there(record: str, problem: str, tmp_path: Path) -> None:
    experiment = tiny_experiment(clients=6, strategy={"name": "attending"})
    simulated(tmp_path / "run", experiment).close()
    assert problems(tmp_path / "run") == []
    edit(tmp_path / "run", f"UPDATE rounds SET held = '{record}' WHERE round = 1")  # noqa: S608
    (found,) = problems(tmp_path / "run")
    assert re.search(problem, found)
