"""One contract for all strategies, and what each one of them is."""

from pathlib import Path
from typing import Any

import pytest
from driving import simulated, tiny_experiment
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ExperimentError
from common.parameters import digest
from common.tensorfile import open_file
from protos import lotteryfl_pb2 as pb
from server.report import summarise
from server.strategies import STRATEGIES, create_strategy
from server.strategies.base import Strategy


def create(name: str, **changes: Any) -> Strategy:
    return create_strategy(tiny_experiment(strategy={"name": name}, **changes))


every = pytest.mark.parametrize("name", sorted(STRATEGIES))


def test_what_there_is() -> None:
    assert set(STRATEGIES) == {"lotteryfl", "fedavg", "standalone"}
    with pytest.raises(ExperimentError, match=r"strategy\.name = 'x': must be one of lotteryfl, fedavg, standalone"):
        create("x")


@every
def test_a_strategy_is_created_by_its_name(name: str) -> None:
    strategy = create(name)
    assert type(strategy) is STRATEGIES[name]
    assert strategy.name == name
    assert strategy.experiment.strategy.name == name


@every
@given(seed=st.integers(0, 2**63 - 1), round_=st.integers(1, 10**6), data=st.data())
def test_a_sample_is_so_many_distinct_clients_in_order(name: str, seed: int, round_: int, data: st.DataObject) -> None:
    clients = data.draw(st.integers(1, 50))
    size = data.draw(st.integers(1, clients))
    changes = {"seed": seed, "clients": clients, "clients_per_round": size}
    sample = create(name, **changes).sample(round_)
    assert len(sample) == size
    assert sample == sorted(set(sample))
    assert set(sample) <= set(range(clients))
    assert sample == create(name, **changes).sample(round_)


@every
def test_samples_differ_by_round_and_seed_and_reach_everyone_equally(name: str) -> None:
    strategy = create(name, clients=20, clients_per_round=5)
    samples = [strategy.sample(round_) for round_ in range(1, 401)]
    assert len({tuple(sample) for sample in samples}) > 380
    assert samples != [create(name, seed=1, clients=20, clients_per_round=5).sample(r) for r in range(1, 401)]
    times = [sum(client in sample for sample in samples) for client in range(20)]
    assert min(times) > 65  # 100 expected, 8.7 standard deviation
    assert max(times) < 135


@every
def test_a_plan_trains_as_the_experiment_says_and_travels(name: str) -> None:
    strategy = create(name, training={"epochs": 7})
    for plan in (strategy.plan(), strategy.final_plan()):
        assert plan.train.epochs == 7
        assert pb.Plan.FromString(plan.SerializeToString()) == plan


@every
def test_only_those_that_say_so_prune_and_never_at_the_end(name: str) -> None:
    strategy = create(name)
    assert strategy.plan().HasField("prune") == strategy.prunes
    assert not strategy.final_plan().HasField("prune")
    assert strategy.final_plan().rewind == pb.Plan.NONE


@every
def test_a_whole_run_does_what_the_strategy_says_of_itself(name: str, tmp_path: Path) -> None:
    strategy = create(name)
    with simulated(tmp_path / "run", strategy.experiment) as run:
        summary = summarise(run)
        assert summary["strategy"] == name
        initial = digest(open_file(run.path / "models/round-0000.safetensors"))
        assert (summary["model_sha256"] != initial) == strategy.aggregates
        assert (summary["density"]["mean"] < 1) == strategy.prunes


def test_lotteryfl_says_its_settings() -> None:
    plan = create("lotteryfl").plan()
    assert (plan.prune.rate, plan.prune.target_density, plan.prune.accuracy_threshold) == (0.3, 0.5, 0.0)
    assert (plan.prune.scope, plan.prune.overshoot, plan.rewind) == (pb.Plan.GLOBAL, False, pb.Plan.INITIAL)
    settings = {"name": "lotteryfl", "scope": "layer", "overshoot": True, "rewind": "none", "accuracy_threshold": 0.7}
    plan = create_strategy(tiny_experiment(strategy=settings)).plan()
    assert (plan.prune.scope, plan.prune.overshoot, plan.rewind) == (pb.Plan.LAYER, True, pb.Plan.NONE)
    assert plan.prune.accuracy_threshold == 0.7
