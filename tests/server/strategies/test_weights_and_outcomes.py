"""A strategy weighs its clients and has the last word on what a round came to; both are part of the same bits."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.wire.clientresult import ClientResult
from lotteryfl.server.results.verify import verify
from lotteryfl.server.store.runfiles import model_file
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.base import RoundOutcome, Strategy
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.feddst import FedDST
from lotteryfl.server.strategies.lotteryfl import LotteryFL
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment
from tests.support.playing import W, model, play, ticket

pytestmark = pytest.mark.usefixtures("own_strategies")


def weighing(weigh: Callable[[ClientResult], float], base: type[Strategy] = LotteryFL) -> dict[str, Any]:
    """Return the settings of a run whose clients weigh so."""

    def weight(_: Strategy, result: ClientResult) -> float:
        return weigh(result)

    STRATEGIES["own"] = type("Own", (base,), {"name": "own", "weight": weight})
    return {"strategy": {"name": "own"}, "clients": 4, "clients_per_round": 4}


def model_of(path: Path, **settings: Any) -> str:
    with simulated(path, tiny_experiment(**settings)) as run:
        return run.database.get("model_sha256")


def _times(factor: float, result: ClientResult) -> float:
    return result.examples * factor


@pytest.mark.parametrize("base", ["lotteryfl", "cell", "ssfl"])
def test_weights_that_are_the_examples_give_the_same_bits_whatever_they_are_multiplied_by(
    base: str, tmp_path: Path
) -> None:
    everybody = {"clients": 4, "clients_per_round": 4}
    expected = model_of(tmp_path / "examples", strategy={"name": base}, **everybody)
    for number, factor in enumerate((1.0, 2.0**-1060, 2.0**1015)):
        settings = weighing(partial(_times, factor), STRATEGIES[base])
        assert model_of(tmp_path / str(number), **settings) == expected
    settings = weighing(lambda result: result.examples**2, STRATEGIES[base])
    assert model_of(tmp_path / "squared", **settings) != expected


def test_the_mean_is_weighted_as_said_by_metrics_too(tmp_path: Path) -> None:
    settings = weighing(lambda result: result.metrics.downloaded.loss**3 / 7, FedAvg)
    bench = play(Bench(tmp_path / "run", tiny_experiment(**settings), TinyTask()))
    losses = bench.run.database.select("SELECT loss FROM metrics WHERE phase = 'downloaded' AND round = 1").fetchall()
    weights = np.array([loss for (loss,) in losses]) ** 3
    sent = np.stack([ticket(bench, client)[W].numpy().astype(np.float64) for client in range(4)])
    np.testing.assert_allclose(model(bench)[W].numpy(), np.average(sent, axis=0, weights=weights), rtol=1e-6)
    assert not np.allclose(model(bench)[W].numpy(), np.average(sent, axis=0), rtol=1e-4)
    bench.close()


def test_a_client_of_weight_0_is_as_if_it_had_not_come(tmp_path: Path) -> None:
    settings = weighing(lambda result: result.client == 2)
    bench = play(Bench(tmp_path / "run", tiny_experiment(**settings), TinyTask()))
    old, new, its = open_file(bench.run.model_path(0))[W], model(bench)[W], ticket(bench, 2)[W]
    kept = its != 0
    assert torch.equal(new[kept], its[kept])
    assert torch.equal(new[~kept], old[~kept])
    assert 0 < int(kept.sum()) < kept.numel()
    bench.close()


class Nudging(FedAvg):
    """Momentum of a kind: half of the way on, by tensors of the outcome alone, and something that is drawn."""

    name = "nudging"

    def after_round(self, outcome: RoundOutcome) -> Mapping[str, Tensor]:
        loss = sum(result.metrics.personalised.loss for result in outcome.results) / len(outcome.results)
        new, old = outcome.aggregated[W], outcome.before[W]
        assert outcome.table[W].shape == tuple(new.shape)
        return {W: new + (new - old) * loss / 2 + torch.rand(()) / 100}


def test_what_it_returns_is_the_new_model_and_the_rest_stays(tmp_path: Path) -> None:
    STRATEGIES["nudging"] = Nudging
    bench = Bench(tmp_path / "run", tiny_experiment(strategy={"name": "nudging"}), TinyTask())
    plain = Bench(tmp_path / "plain", tiny_experiment(strategy={"name": "fedavg"}), TinyTask())
    for each in (bench, plain):
        play(each)
    nudged, mean = model(bench), model(plain)
    assert torch.equal(nudged["2.weight"], mean["2.weight"])
    assert not torch.equal(nudged[W], mean[W])
    play(bench)
    bench.finish()
    bench.close()
    assert verify(tmp_path / "run").problems == 0


@pytest.mark.parametrize("times", [1, 2])
def test_a_crash_before_the_commit_asks_again_and_comes_to_the_same_bits(times: int, tmp_path: Path) -> None:
    STRATEGIES["nudging"] = Nudging
    experiment = tiny_experiment(strategy={"name": "nudging"})
    bench = Bench(tmp_path / "killed", experiment, TinyTask())
    for _ in range(experiment.rounds):
        bench.do_all(bench.register())
        for _ in range(times):
            bench.conclude()  # the file is there, and the process is gone before the commit
            bench.restart()
        bench.commit()
    bits = bench.finish().bits()
    bench.close()
    with simulated(tmp_path / "undisturbed", experiment) as run:
        assert bits[:2] == (run.database.get("model_sha256"), run.tickets_sha256())


def test_under_a_shared_mask_what_nobody_keeps_stays_0_and_the_next_mask_is_of_what_was_returned(
    tmp_path: Path,
) -> None:
    class Ones(FedDST):
        name = "ones"
        seen: Tensor

        def after_round(self, outcome: RoundOutcome) -> Mapping[str, Tensor]:
            return {W: torch.ones(12, 6)}

        def next_masks(self, round_: int, table: Any, aggregated: Mapping[str, Tensor]) -> Any:
            type(self).seen = aggregated[W].clone()
            return super().next_masks(round_, table, aggregated)

    STRATEGIES["ones"] = Ones
    settings = {"name": "ones", "target_density": 0.5, "readjust_every": 1}
    bench = play(Bench(tmp_path / "run", tiny_experiment(rounds=4, strategy=settings), TinyTask()))
    assert set(Ones.seen.unique().tolist()) == {0.0, 1.0}
    assert set(model(bench)[W].unique().tolist()) == {0.0, 1.0}
    assert int(model(bench)[W].sum()) == 36
    bench.close()


@pytest.mark.parametrize("values", [{}, {"0.bias": torch.zeros(12)}])
def test_the_file_is_written_again_only_where_something_is_returned(values: dict[str, Tensor], tmp_path: Path) -> None:
    path, files = tmp_path / "run" / model_file(1), set[int]()

    class Noting(FedAvg):
        name = "own"

        def after_round(self, outcome: RoundOutcome) -> Mapping[str, Tensor]:
            del outcome
            files.add(path.stat().st_ino)
            return values

    STRATEGIES["own"] = Noting
    bench = play(Bench(tmp_path / "run", tiny_experiment(strategy={"name": "own"}), TinyTask()))
    assert ({path.stat().st_ino} == files) == (not values)
    bench.close()
