"""What a run has come to, against the figures in its directory."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.finaltable import final_table
from lotteryfl.server.results.spread import spread
from lotteryfl.server.results.summary import summarise, write_summary
from lotteryfl.server.results.verify import verify
from lotteryfl.server.store.assignments import State
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.status import status_of
from lotteryfl.server.store.summaries import client_summaries, most_left_out
from tests.support.bench import Bench, simulated, tiny_experiment

Drive = Callable[..., Bench]


def shape(value: object) -> object:
    return {key: shape(item) for key, item in value.items()} if isinstance(value, dict) else type(value)


def test_the_summary_has_these_keys_and_is_valid_json(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(seed=5)) as run:
        path = write_summary(run)
        assert path == tmp_path / "run" / "summary.json"
        summary = json.loads(path.read_text())
        assert summary == summarise(run)
        assert summary["model_sha256"] == run.database.get("model_sha256")
        assert summary["tickets_sha256"] == run.tickets_sha256()
    assert shape(summary) == {
        "strategy": str,
        "rounds": int,
        "clients": int,
        "seed": int,
        "accuracy": {
            **dict.fromkeys(("downloaded_last", "downloaded_std", "downloaded_worst_decile", "downloaded_best"), float),
            **dict.fromkeys(("personalised_last", "personalised_std", "personalised_worst_decile"), float),
            "personalised_best": float,
            "global_last": type(None),
            "global_std": type(None),
        },
        "density": {"mean": float, "std": float},
        "bytes": {"down": int, "up": int},
        "refused": {"results": int, "by_worker": {}, "aside": list},
        "left_out": list,
        "privacy": type(None),
        "model_sha256": str,
        "tickets_sha256": str,
    }
    assert (summary["strategy"], summary["rounds"], summary["clients"], summary["seed"]) == ("lotteryfl", 2, 4, 5)
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_last_is_the_mean_over_all_clients_and_best_the_best_over_all_rounds(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(rounds=4)) as run:
        summary = summarise(run)
        last = client_summaries(run.database, 5)
        means = [sum(rows) / 4 for rows in ([c.score_downloaded for c in last], [c.score_personalised for c in last])]
        assert [summary["accuracy"]["downloaded_last"], summary["accuracy"]["personalised_last"]] == pytest.approx(
            means
        )
        by_round = [[c.score_personalised for c in client_summaries(run.database, round_)] for round_ in range(1, 6)]
        assert len(by_round[0]) == 3
        best = max(sum(values) / len(values) for values in by_round)
        assert summary["accuracy"]["personalised_best"] == pytest.approx(best)
        assert summary["density"]["mean"] == pytest.approx(sum(c.density for c in last) / 4)
        assert summary["bytes"]["down"] == sum(c.bytes_down for c in last) > 0
        assert summary["bytes"]["up"] == sum(c.bytes_up for c in last) > 0


def test_the_table_has_a_line_for_each_client_and_their_means(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment()) as run:
        clients = client_summaries(run.database, 3)
        lines = final_table(run).splitlines()
    assert " ".join(lines[0].split()) == "client accuracy downloaded personalised density bytes down bytes up"
    assert [line.split()[0] for line in lines[2:]] == ["0", "1", "2", "3", "mean", "std", "worst", "best"]
    first, mean = lines[2].split(), lines[6].split()
    assert first[1:4] == [
        f"{value:.3f}" for value in (clients[0].score_downloaded, clients[0].score_personalised, clients[0].density)
    ]
    assert first[4] == f"{clients[0].bytes_down:,}"
    assert mean[3] == f"{sum(c.density for c in clients) / 4:.3f}"


def test_the_directory_alone_says_what_the_coordinator_says(drive: Drive) -> None:
    bench = drive()

    def both() -> tuple[pb.RunStatus, pb.RunStatus]:
        with RunDirectory(bench.path, read_only=True) as reader:
            status = status_of(reader)
        live = bench.coordinator.status()
        live.workers = 0  # only the coordinator knows who is alive
        for each in (status, live):
            for name in ("waits", "heard", "goes_on", "machines", "devices"):  # when it was heard of, and what it is
                each.ClearField(name)
        return status, live

    worker = bench.register()
    assert both()[0] == both()[1]
    bench.submit(worker, bench.do(bench.take(worker)))
    id_ = bench.take(worker).assignment.assignment_id
    bench.coordinator.count_bytes(id_, down=100, up=10)
    bench.coordinator.count_bytes("", down=1000)  # θ_0
    status, live = both()
    assert status.in_flight == live.in_flight == [f"client {id_[4]} on w"]
    bench.do_all(worker)
    bench.commit()
    assert both()[0] == both()[1]
    assert both()[0].last.round == 1
    bench.finish()
    assert both()[0] == both()[1]
    assert both()[0].state == pb.RunStatus.FINISHED


def test_a_failed_run_says_why(drive: Drive) -> None:
    bench = drive()
    bench.coordinator.fail("the data is gone")
    status = status_of(bench.run)
    assert (status.state, status.reason) == (pb.RunStatus.FAILED, "the data is gone")


def test_the_spread_is_numpys_and_the_worst_decile_of_at_least_one() -> None:
    values = [0.9, 0.1, 0.5, 0.7, 0.3, 0.8, 0.2, 0.6, 0.4, 1.0, 0.95]
    found = spread(values)
    assert found == pytest.approx((np.mean(values), np.std(values), (0.1 + 0.2) / 2))
    assert spread(values[:10]).worst_decile == 0.1
    assert spread([0.4]) == (0.4, 0.0, 0.4)
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_spread_worst_and_best_are_over_clients_and_rounds(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(rounds=3)) as run:
        accuracy, density = summarise(run)["accuracy"], summarise(run)["density"]
        last = client_summaries(run.database, 4)
        rounds = [client_summaries(run.database, number) for number in range(1, 5)]
        lines = [line.split() for line in final_table(run).splitlines()]
    downloaded = [client.score_downloaded for client in last]
    assert accuracy["downloaded_std"] == pytest.approx(np.std(downloaded))
    assert accuracy["downloaded_worst_decile"] == min(downloaded)
    assert accuracy["personalised_worst_decile"] == min(client.score_personalised for client in last)
    assert accuracy["downloaded_best"] == pytest.approx(
        max(np.mean([client.score_downloaded for client in clients]) for clients in rounds)
    )
    assert density["std"] == pytest.approx(np.std([client.density for client in last]))
    assert lines[-3][:2] == ["std", f"{accuracy['downloaded_std']:.3f}"]
    assert lines[-2] == [
        *("worst", "10", "%"),
        *(f"{accuracy['downloaded_worst_decile']:.3f}", f"{accuracy['personalised_worst_decile']:.3f}"),
    ]
    assert lines[-1][2:] == [f"{accuracy['downloaded_best']:.3f}", f"{accuracy['personalised_best']:.3f}"]


def test_who_was_left_out_is_named_and_of_very_many_those_who_missed_most(drive: Drive) -> None:
    """150 clients sit round 1 out, and 20 of them round 2 as well."""
    bench = drive(tiny_experiment(clients=150, clients_per_round=150))
    unlucky = range(100, 120)
    for round_, missing in ((1, range(150)), (2, unlucky)):
        database = bench.run.database
        with database.transaction():
            for row in database.assignments(round_):
                state: State = "dropped" if row.client in missing else "done"
                database.set_standings([row.standing._replace(state=state, reason=f"ill in {round_}")])
            database.commit_round(round_, 1.0, "")
        bench.restart()
    expected = [*((client, 1, 1, "ill in 1") for client in range(80)), *((each, 2, 2, "ill in 2") for each in unlucky)]
    for found in (
        bench.coordinator.status().left_out,
        status_of(bench.run).left_out,
        most_left_out(bench.run.database),
    ):
        assert [(each.client, each.rounds, each.last, each.reason) for each in found] == expected


def test_the_summary_names_who_was_left_out(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    lost = bench.take(worker).assignment
    for _ in range(bench.run.experiment.round.max_attempts):
        bench.coordinator.release(worker, lost.assignment_id, "client 9: OSError at a.py:3")
        while (work := bench.coordinator.lease(worker)) and work.assignment.client != lost.client:
            bench.submit(worker, bench.do(work))
        lost = work.assignment if work else lost
    bench.finish()
    summary = summarise(bench.run)
    assert summary["left_out"] == [
        {"client": lost.client, "rounds": 1, "last": 1, "reason": "client 9: OSError at a.py:3"}
    ]
    path = write_summary(bench.run)
    older = {key: value for key, value in summary.items() if key != "left_out"}
    bench.close()
    assert verify(bench.path).problems == 0
    path.write_text(json.dumps(older))  # as versions before wrote it
    assert verify(bench.path).problems == 0
    path.write_text(json.dumps({**older, "left_out": []}))
    assert verify(bench.path).problems == 1
    bench.restart()
