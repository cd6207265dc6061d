"""What is spent of privacy: Opacus by hand, the exact Gaussian as a lower bound, and what a run counts."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from opacus.accountants import RDPAccountant
from opacus.accountants.analysis import rdp
from scipy.stats import norm

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.privacy.accountant import Accountant, Releases, epsilon, epsilons
from lotteryfl.server.results.finaltable import final_table
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.store.status import status_of
from lotteryfl.server.store.summaries import round_summaries
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment

Drive = Callable[..., Bench]

FEDAVG = {"strategy": {"name": "fedavg"}, "aggregation": {"weighting": "equal"}}


def by_opacus(noise_multiplier: float, sample_rate: float, steps: int, delta: float = 1e-5) -> float:
    accountant = RDPAccountant()
    for _ in range(steps):
        accountant.step(noise_multiplier=noise_multiplier, sample_rate=sample_rate)
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize("noise_multiplier", [0.6, 1.0, 4.0])
@pytest.mark.parametrize("steps", [1, 30])
def test_epsilon_is_what_opacus_says_and_no_less_than_the_exact_gaussians(noise_multiplier: float, steps: int) -> None:
    found = epsilon([Releases(noise_multiplier, 1.0, steps)], 1e-5)
    assert found == pytest.approx(by_opacus(noise_multiplier, 1.0, steps), rel=1e-12)
    # Balle and Wang 2018, theorem 8: δ of one Gaussian; several are one of less noise.
    scale = noise_multiplier / math.sqrt(steps)
    delta = norm.cdf(1 / (2 * scale) - found * scale) - math.exp(found) * norm.cdf(-1 / (2 * scale) - found * scale)
    assert delta <= 1e-5


def test_with_sampling_it_is_opacus_at_whole_orders_and_a_little_above_its_best() -> None:
    history = [Releases(1.1, 0.1, 20), Releases(0.9, 0.05, 10)]
    orders = [*range(2, 11), *range(12, 64)]
    divergence = sum(rdp.compute_rdp(q=q, noise_multiplier=z, steps=n, orders=orders) for z, q, n in history)
    expected, _ = rdp.get_privacy_spent(orders=orders, rdp=divergence, delta=1e-5)
    assert epsilon(history, 1e-5) == pytest.approx(expected, rel=1e-12)
    best = by_opacus(1.1, 0.1, 20)
    assert best <= epsilon(history[:1], 1e-5) <= 1.05 * best


def test_nothing_released_is_nothing_spent() -> None:
    assert epsilon([], 1e-5) == epsilon([Releases(1.0, 1.0, 0)], 1e-5) == 0.0


def test_the_servers_noise_counts_the_results_that_went_into_a_model(tmp_path: Path) -> None:
    experiment = tiny_experiment(rounds=3, **FEDAVG, privacy={"clip_norm": 1.0, "noise": "server"})
    with simulated(tmp_path / "run", experiment) as run:
        taken = Counter(result.client for round_ in (1, 2, 3) for result in run.database.results(round_))
        assert sum(taken.values()) == 9
        assert epsilons(run.database, experiment) == {
            client: pytest.approx(by_opacus(1.0, 1.0, times)) for client, times in taken.items()
        }
        rounds = round_summaries(run.database)
        spent = [summary.epsilon for summary in rounds]
        assert spent[0] == pytest.approx(by_opacus(1.0, 1.0, 1))
        assert spent[2] == spent[3] == pytest.approx(by_opacus(1.0, 1.0, max(taken.values())))  # measuring is free
        assert {summary.delta for summary in rounds} == {1e-5}
        assert status_of(run).last.epsilon == spent[3]
        assert summarise(run)["privacy"] == {"protects": "client", "epsilon": spent[3], "delta": 1e-5}
        assert "ε" in final_table(run)


def test_a_clients_own_noise_counts_every_time_its_work_was_given_out(drive: Drive) -> None:
    privacy = {"clip_norm": 1.0, "noise": "client", "noise_multiplier": 3.0}
    bench = drive(tiny_experiment(rounds=1, clients=2, clients_per_round=2, **FEDAVG, privacy=privacy))
    worker = bench.register()
    first = bench.take(worker)
    bench.do(first)  # it may have sent it; nobody knows
    bench.coordinator.release(worker, first.assignment.assignment_id, "was lost")
    while bench.coordinator.advance().name != "COMMIT":
        work = bench.take(worker)
        assert bench.submit(worker, bench.do(work)).verdict == pb.SubmitReply.ACCEPTED
    spent = epsilons(bench.run.database, bench.run.experiment)
    assert spent[first.assignment.client] == pytest.approx(by_opacus(1.5, 1.0, 2))  # any data as against any others
    assert spent[1 - first.assignment.client] == pytest.approx(by_opacus(1.5, 1.0, 1))


def test_the_last_round_costs_a_client_that_makes_its_own_noise(tmp_path: Path) -> None:
    experiment = tiny_experiment(
        rounds=1, clients_per_round=4, **FEDAVG, privacy={"clip_norm": 1.0, "noise": "client", "noise_multiplier": 2.0}
    )
    with simulated(tmp_path / "run", experiment) as run:
        assert [summary.epsilon for summary in round_summaries(run.database)] == pytest.approx(
            [by_opacus(1.0, 1.0, 1), by_opacus(1.0, 1.0, 2)]
        )


@pytest.mark.parametrize("length", [{"epochs": 2}, {"steps": 7}, {"epochs": 2, "drop_last": True}], ids=str)
def test_dp_sgd_counts_every_clients_steps_by_its_examples(length: dict[str, int], tmp_path: Path) -> None:
    experiment = tiny_experiment(
        rounds=1,
        clients_per_round=4,
        training=length,
        strategy={"name": "fedavg", "finetune_epochs": 3},
        privacy={"dp_sgd": True, "delta": 1e-3},
    )
    with simulated(tmp_path / "run", experiment, TinyTask()) as run:
        spent = epsilons(run.database, experiment)
        for client in range(4):  # client k has 8 + k examples, in batches of 4
            steps_of_epoch = 2 if "drop_last" in length else math.ceil((8 + client) / 4)
            steps = length.get("steps", 2 * steps_of_epoch) + 3 * steps_of_epoch
            expected = by_opacus(1.0, 4 / (8 + client), steps, 1e-3)
            assert expected <= spent[client] <= 1.25 * expected
        assert Accountant(run.database, experiment).most_spent_with(3) == (max(spent.values()), 1e-3)
        for each in round_summaries(run.database):
            assert 0 < each.epsilon <= max(spent.values())
        summary = summarise(run)["privacy"]
        assert summary is not None
        assert summary["protects"] == "example"


def test_without_noise_nothing_is_promised(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(privacy={"clip_norm": 1.0})) as run:
        assert summarise(run)["privacy"] is None
        assert not round_summaries(run.database)[-1].HasField("epsilon")
        assert "ε" not in final_table(run)
