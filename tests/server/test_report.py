"""What a run has come to, against the figures in its directory."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from driving import Bench, simulated, tiny_experiment

from protos import lotteryfl_pb2 as pb
from server.report import final_table, status_of, summarise, write_summary
from server.rundir import RunDirectory

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
        "accuracy": {"downloaded_last": float, "personalised_last": float, "personalised_best": float},
        "density": {"mean": float},
        "bytes": {"down": int, "up": int},
        "refused": {"results": int, "by_worker": {}, "aside": list},
        "privacy": type(None),
        "model_sha256": str,
        "tickets_sha256": str,
    }
    assert (summary["strategy"], summary["rounds"], summary["clients"], summary["seed"]) == ("lotteryfl", 2, 4, 5)
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_last_is_the_mean_over_all_clients_and_best_the_best_over_all_rounds(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(rounds=4)) as run:
        summary = summarise(run)
        last = run.database.client_summaries(5)
        means = [
            sum(rows) / 4 for rows in ([c.accuracy_downloaded for c in last], [c.accuracy_personalised for c in last])
        ]
        assert [summary["accuracy"]["downloaded_last"], summary["accuracy"]["personalised_last"]] == pytest.approx(
            means
        )
        by_round = [[c.accuracy_personalised for c in run.database.client_summaries(round_)] for round_ in range(1, 6)]
        assert len(by_round[0]) == 3
        best = max(sum(values) / len(values) for values in by_round)
        assert summary["accuracy"]["personalised_best"] == pytest.approx(best)
        assert summary["density"]["mean"] == pytest.approx(sum(c.density for c in last) / 4)
        assert summary["bytes"]["down"] == sum(c.bytes_down for c in last) > 0
        assert summary["bytes"]["up"] == sum(c.bytes_up for c in last) > 0


def test_the_table_has_a_line_for_each_client_and_their_means(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment()) as run:
        clients = run.database.client_summaries(3)
        lines = final_table(run).splitlines()
    assert " ".join(lines[0].split()) == "client accuracy downloaded personalised density bytes down bytes up"
    assert [line.split()[0] for line in lines[2:]] == ["0", "1", "2", "3", "mean"]
    first, mean = lines[2].split(), lines[-1].split()
    assert first[1:4] == [
        f"{value:.3f}"
        for value in (clients[0].accuracy_downloaded, clients[0].accuracy_personalised, clients[0].density)
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
