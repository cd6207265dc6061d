"""What a strategy answers is checked before it counts: each thing that cannot be is one line that names it."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.tensors.file import open_file
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.strategies import STRATEGIES, add_strategies, create_strategy
from lotteryfl.server.strategies.base import ClientState, RoundOutcome
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.ssfl import SSFL
from tests.support.bench import TinyTask, create, simulated, tiny_experiment

pytestmark = pytest.mark.usefixtures("own_strategies")

OWN = """
from lotteryfl.server.strategies.fedavg import FedAvg

class Mine(FedAvg):
    name = "mine"

    def _helper(self):
        return 1
"""


def answering(**hooks: Any) -> None:
    """Let `strategy.name = "answering"` be a strategy that gives these answers, whatever it is asked."""
    attributes: dict[str, Any] = {name: hooks.pop(name) for name in ("aggregates", "attends") if name in hooks}
    methods = {name: lambda *_, answer=answer: answer for name, answer in hooks.items()}
    STRATEGIES["answering"] = type("Answering", (FedAvg,), {"name": "answering", **methods, **attributes})


def opened(path: Path, **changes: Any) -> str:
    """Return what is said when the first round is opened."""
    experiment = tiny_experiment(strategy={"name": "answering"}, **changes)
    with create(path, experiment, TinyTask()) as run, pytest.raises(ExperimentError) as caught:
        Coordinator(run)
    return str(caught.value)


@pytest.mark.parametrize(
    ("method", "nearest"),
    [("next_mask", "next_masks"), ("after_rounds", "after_round"), ("Sample", "sample"), ("wieght", "weight")],
)
def test_a_method_that_no_hook_has_is_named_with_the_nearest(method: str, nearest: str, tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text(f"{OWN}\n    def {method}(self, *_):\n        return None\n")
    with pytest.raises(ExperimentError) as caught:
        add_strategies(str(source))
    assert str(caught.value) == (
        f"--strategy {source}: class Mine: method {method} is no hook: did you mean {nearest}? "
        "(what is your own begins with _)"
    )
    assert "mine" not in STRATEGIES


def test_hooks_and_what_is_ones_own_are_no_such_methods(tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text(
        f"{OWN}\n    def weight(self, result):\n        return 1\n\nclass More(Mine):\n    name = 'more'\n"
    )
    add_strategies(str(source))
    assert {"mine", "more"} <= STRATEGIES.keys()


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"train": {"epochs": 1}}, "returned {'train': {'epochs': 1}}, expected a Plan"),
        (None, "returned None, expected a Plan"),
        (pb.Plan(), "is empty: there is nothing to do"),
        (
            pb.Plan(prune=pb.Plan.Prune(rate=0.1, target_density=0.5)),
            "has train.epochs = 0 and train.steps = 0, expected at least 1 of either",
        ),
        (
            pb.Plan(train=pb.Plan.Train(epochs=1, lr=math.nan)),
            "has train.lr = nan, expected a finite number above 0, or none for the experiment's",
        ),
        (
            pb.Plan(train=pb.Plan.Train(steps=1, lr=-0.1)),
            "has train.lr = -0.1, expected a finite number above 0, or none for the experiment's",
        ),
        (
            pb.Plan(train=pb.Plan.Train(epochs=1, proximal=math.inf)),
            "has train.proximal = inf, expected a finite number not below 0",
        ),
    ],
)
def test_a_plan_that_nobody_could_follow_is_refused(plan: Any, said: str, tmp_path: Path) -> None:
    answering(plan=plan, sample=[2])
    assert opened(tmp_path / "run") == f"strategy.name = 'answering': plan for client 2 in round 1 {said}"


def test_a_plan_is_each_rounds_and_each_clients_own(tmp_path: Path) -> None:
    class Cooling(FedAvg):
        name = "answering"

        def plan(self, round_: int, client: ClientState) -> pb.Plan:
            return pb.Plan(train=pb.Plan.Train(lr=0.5 / round_, steps=1 + client.client))

    STRATEGIES["answering"] = Cooling
    with simulated(tmp_path / "run", tiny_experiment(strategy={"name": "answering"})) as run:
        for round_ in (1, 2):
            rows = run.database.assignments(round_)
            expected = [(0.5 / round_, 1 + row.client, 0) for row in rows]
            assert [(row.plan.train.lr, row.plan.train.steps, row.plan.train.epochs) for row in rows] == expected


def test_a_final_plan_is_checked_too(tmp_path: Path) -> None:
    answering(final_plan=None)
    with pytest.raises(ExperimentError, match="final_plan for client 0 in round 3 returned None, expected a Plan"):
        simulated(tmp_path / "run", tiny_experiment(strategy={"name": "answering"}))


@pytest.mark.parametrize(
    ("clients", "said"),
    [
        ([], "sampled nobody for round 1, expected at least one client"),
        ([1, 3, 1], "sampled client 1 for round 1 twice"),
        ([0, 4], "sampled client 4 for round 1, expected clients below 4 with evaluation.new_clients = 0"),
        ([-1, 0], "sampled client -1 for round 1, expected clients below 4 with evaluation.new_clients = 0"),
        ([1.0, 2.0], "sampled [1.0, 2.0] for round 1, expected a list of clients' numbers"),
        (None, "sampled None for round 1, expected a list of clients' numbers"),
    ],
)
def test_a_sample_that_cannot_be_is_refused(clients: Any, said: str, tmp_path: Path) -> None:
    answering(sample=clients)
    assert opened(tmp_path / "run") == f"strategy.name = 'answering': {said}"


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (math.nan, "weight for client 0 in round 1 is nan, expected a finite number, not below 0"),
        (math.inf, "weight for client 0 in round 1 is inf, expected a finite number, not below 0"),
        (-1.0, "weight for client 0 in round 1 is -1.0, expected a finite number, not below 0"),
        (None, "weight for client 0 in round 1 is None, expected a finite number, not below 0"),
        (0, "weight is 0 for all 4 clients, expected more than 0 for one of them"),
    ],
)
def test_a_weight_that_is_none_is_refused(weight: Any, said: str, tmp_path: Path) -> None:
    answering(weight=weight)
    with pytest.raises(ExperimentError) as caught:
        simulated(tmp_path / "run", tiny_experiment(strategy={"name": "answering"}, clients_per_round=4))
    assert str(caught.value) == f"strategy.name = 'answering': {said}"


@pytest.mark.parametrize(
    ("changes", "hooks", "said"),
    [
        (
            {"aggregation": {"weighting": "equal"}},
            {"weight": 1},
            r"aggregation\.weighting = 'equal': strategy\.name = 'answering' weighs clients itself",
        ),
        (
            {"aggregation": {"rule": "median"}},
            {"weight": 1},
            r"aggregation\.rule = 'median': strategy\.name = 'answering' weighs clients",
        ),
        ({}, {"weight": 1, "aggregates": False}, "has weight and aggregates = False, with which it is never asked"),
        ({}, {"after_round": {}, "aggregates": False}, "has after_round and aggregates = False"),
        ({}, {"sample_attending": [0]}, "has sample_attending, which only a class that says attends = True is asked"),
        ({}, {"sample": [0], "attends": True}, "has sample and attends = True, with which sample_attending is asked"),
    ],
)
def test_a_hook_that_its_experiment_never_asks_is_refused(
    changes: dict[str, Any], hooks: dict[str, Any], said: str
) -> None:
    answering(**hooks)
    with pytest.raises(ExperimentError, match=said):
        create_strategy(tiny_experiment(strategy={"name": "answering"}, **changes))


@pytest.mark.parametrize("hook", ["weight", "after_round", "aggregation"])
def test_results_of_a_private_run_count_as_its_noise_is_for(hook: str, tmp_path: Path) -> None:
    answering(**{hook: 1})
    experiment = tiny_experiment(strategy={"name": "answering"}, privacy={"dp_sgd": True})
    with pytest.raises(ExperimentError, match=rf"'answering': has {hook}, by which results count otherwise"):
        create(tmp_path / "run", experiment, TinyTask())


def test_a_private_run_gives_out_no_plan_that_prunes_once_it_has_metrics(tmp_path: Path) -> None:
    class Late(FedAvg):
        name = "answering"

        def plan(self, round_: int, client: ClientState) -> pb.Plan:
            plan = super().plan(round_, client)
            if client.metrics:
                plan.prune.target_density = 0.5
            return plan

    STRATEGIES["answering"] = Late
    noisy = {"privacy": {"clip_norm": 1.0, "noise": "client"}, "aggregation": {"weighting": "equal"}}
    with pytest.raises(
        ExperimentError, match=r"privacy\.noise = 'client': with strategy\.name = 'answering' a client's"
    ):
        simulated(tmp_path / "run", tiny_experiment(strategy={"name": "answering"}, clients_per_round=4, **noisy))


WEIGHT = torch.zeros(12, 6)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([WEIGHT], "returned [tensor(["),
        ({"0.wieght": WEIGHT}, "returned '0.wieght', expected names of tensors that were put together"),
        ({"0.weight": 1.0}, ": 0.weight: 1.0, expected a tensor"),
        ({"0.weight": WEIGHT[:2]}, ": 0.weight: shape [2, 6], expected [12, 6]"),
        ({"0.weight": WEIGHT.double()}, ": 0.weight: torch.float64, expected torch.float32"),
        ({"0.weight": WEIGHT + math.inf}, ": 0.weight: has values that are not finite"),
    ],
)
def test_values_that_cannot_be_the_models_are_refused(values: Any, said: str, tmp_path: Path) -> None:
    answering(after_round=values)
    with pytest.raises(ExperimentError) as caught:
        simulated(tmp_path / "run", tiny_experiment(strategy={"name": "answering"}))
    assert (
        str(caught.value)
        .replace(" returned", "returned")
        .startswith(f"strategy.name = 'answering': after_round for round 1{said}")
    )


def test_a_round_that_measures_can_be_looked_at_and_has_nothing_to_replace(tmp_path: Path) -> None:
    class Looking(SSFL):
        name = "answering"
        looked: Mapping[int, Any] = {}

        def after_round(self, outcome: RoundOutcome) -> Mapping[str, torch.Tensor]:
            saliencies = bool((outcome.aggregated["0.weight"] >= 0).all())
            type(self).looked = {**self.looked, outcome.round: (len(outcome.results), saliencies)}
            return {"0.bias": outcome.before["0.bias"]} if self.experiment.seed == 1 else {}

    STRATEGIES["answering"] = Looking
    experiment = tiny_experiment(strategy={"name": "answering"})
    with simulated(tmp_path / "run", experiment) as run:
        assert Looking.looked == {1: (3, True), 2: (3, False)}
        assert open_file(run.model_path(run.model_round))
    with pytest.raises(ExperimentError, match=r"round 1 returned '0\.bias', and the round only measures"):
        simulated(tmp_path / "other", tiny_experiment(strategy={"name": "answering"}, seed=1))


def test_what_a_strategys_own_code_raises_is_one_line_with_its_place(tmp_path: Path) -> None:
    class Failing(FedAvg):
        name = "answering"

        def plan(self, round_: int, client: ClientState) -> pb.Plan:
            return pb.Plan(train=pb.Plan.Train(epochs=1 // (client.client - client.client)))

    STRATEGIES["answering"] = Failing
    with pytest.raises(ExperimentError) as failed:
        simulated(tmp_path / "run", tiny_experiment(strategy={"name": "answering"}))
    message = r"strategy\.name = 'answering': its round 1 failed at \S+test_answers\.py:\d+: ZeroDivisionError"
    assert re.match(message, str(failed.value))


def test_a_mask_rule_that_is_none_is_named() -> None:
    STRATEGIES["answering"] = type("Grows", (FedAvg,), {"name": "answering", "mask_rule": "grows"})
    with pytest.raises(ExperimentError, match="has mask_rule = 'grows', expected one of shrinks, exchanges, free"):
        create_strategy(tiny_experiment(strategy={"name": "answering"}))
