"""Clients that take part in no round, and are tested in the last: apart from all others, and the same after a kill."""

import random
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from lotteryfl.common.errors import ExperimentError
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.finaltable import final_table
from lotteryfl.server.results.reporting.data import read_run
from lotteryfl.server.results.reporting.figures import figures, table, target_accuracies
from lotteryfl.server.results.reporting.groups import group_runs
from lotteryfl.server.results.summary import summarise, write_summary
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.longer import with_settings
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.store.extension import lengthen
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.summaries import round_summaries
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.fedavg import FedAvg
from tests.support.bench import CPU, Bench, TinyTask, create, silent, simulated, tiny_experiment
from tests.support.told import told

Drive = Callable[..., Bench]


def with_new(number: int = 2, **changes: Any) -> Any:
    evaluation = {"new_clients": number, **changes.pop("evaluation", {})}
    return tiny_experiment(**{"clients": 4 + number, "evaluation": evaluation, "training": {"lr": 0.3}, **changes})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("new") / "run"
    with simulated(path, with_new()) as run:
        write_summary(run)
    return path


def test_they_take_part_in_the_last_round_alone_and_learn_from_nobody_else_before(path: Path, tmp_path: Path) -> None:
    with RunDirectory(path, read_only=True) as run:
        rounds = list(run.database.select("SELECT DISTINCT round FROM assignments WHERE client >= 4"))
        assert rounds == [(3,)]
        with simulated(tmp_path / "without", tiny_experiment(training={"lr": 0.3})) as without:
            model = without.database.get("model_sha256")
        assert run.database.get("model_sha256") == model, "sampled, trained and put together as if they were not there"


def test_their_numbers_stand_apart_and_in_no_mean(path: Path) -> None:
    with RunDirectory(path, read_only=True) as run:
        rows = list(run.database.select("SELECT client, phase, accuracy FROM metrics WHERE round = 3"))
        last = round_summaries(run.database)[-1]
        summary, text = summarise(run), final_table(run)
    mean = {
        (phase, new): fmean(a for client, which, a in rows if which == phase and (client >= 4) == new)
        for phase in ("downloaded", "personalised")
        for new in (True, False)
    }
    assert (last.clients, last.accuracy_personalised) == (4, pytest.approx(mean["personalised", False]))
    assert summary["accuracy"]["downloaded_last"] == pytest.approx(mean["downloaded", False])
    apart = summary["new_clients"]
    assert apart["clients"] == 2
    assert apart["downloaded"] == pytest.approx(mean["downloaded", True])
    assert apart["personalised"] == pytest.approx(mean["personalised", True])
    everyone, new = text.split("\n\n")[:2]
    assert [line.split()[0] for line in everyone.splitlines()[2:6]] == ["0", "1", "2", "3"]
    assert [line.split()[0] for line in new.splitlines()[2:]] == ["4", "5", "mean"]
    assert verify(path).problems == 0


def test_reports_comparisons_and_trackers_tell_them_apart(path: Path) -> None:
    run = read_run(path)
    assert [client.client for client in run.clients] == [0, 1, 2, 3]
    assert len(run.masks) == 4
    downloaded, personalised = run.newcomers()
    groups = group_runs([run])
    targets = target_accuracies(groups)
    row = figures(groups[0], targets)
    assert row.new_downloaded is not None
    assert row.new_downloaded.mean == downloaded
    assert "new, personalised" in table([row], targets, "simple").splitlines()[0]
    last = list(told(run.path).values())[-1]
    assert (last["accuracy/new_downloaded"], last["accuracy/new_personalised"]) == (downloaded, personalised)


def test_killed_after_every_result_and_made_longer_it_is_the_same(drive: Drive, tmp_path: Path) -> None:
    bench = drive(with_new(rounds=1))
    while bench.run.state == "running":
        worker = bench.register()
        if (work := bench.coordinator.lease(worker)) is not None:
            bench.submit(worker, bench.do(work))
        else:
            bench.commit()
        bench.restart()
    bench.close()
    with RunDirectory(bench.path) as run:
        lengthen(run, with_settings(run, ["rounds=3"]).rounds)
    bench.restart().finish()
    with simulated(tmp_path / "whole", with_new(rounds=3)) as whole:
        expected = summarise(whole)
    found = summarise(bench.run)
    assert {**found, "bytes": None} == {**expected, "bytes": None}


def test_where_none_but_new_clients_is_left_in_the_last_round_the_run_ends(drive: Drive) -> None:
    bench = drive(with_new(rounds=1, evaluation={"patience": 3}))
    bench.do_all(bench.register())
    bench.commit()
    bench.do_all(bench.register("w2", clients={4, 5}))
    while bench.coordinator.advance() is not Step.COMMIT:
        bench.now += 5
    bench.commit()
    assert bench.run.state == "finished"
    assert summarise(bench.run)["new_clients"]["clients"] == 2
    assert final_table(bench.run).split()[:2] == ["new", "client"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"clients": 2},
            r"^test: evaluation\.new_clients = 2: must leave at least clients_per_round = 1 of clients = 2$",
        ),
        ({"clients": 4, "clients_per_round": 3}, r"new_clients = 2: must leave at least clients_per_round = 3 of"),
        (
            {"strategy": {"name": "standalone"}},
            r"new_clients = 2: with strategy.name = 'standalone' there is no global",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=why):
        create(tmp_path / "run", with_new(**{"clients_per_round": 1, **changes}), TinyTask())


@pytest.mark.usefixtures("own_strategies")
def test_a_strategy_of_ones_own_that_samples_them_is_named(tmp_path: Path) -> None:
    class Everyone(FedAvg):
        name = "everyone"

        def sample(self, round_: int) -> list[int]:
            return sorted(random.sample(range(self.experiment.clients), self.experiment.clients))

    STRATEGIES["everyone"] = Everyone
    experiment = with_new(strategy={"name": "everyone"})
    with (
        create(tmp_path / "run", experiment, TinyTask()) as run,
        pytest.raises(ExperimentError, match="'everyone': sampled client 5 for round 1, expected clients below 4"),
    ):
        Simulation(run, TinyTask(), CPU).run(silent)
