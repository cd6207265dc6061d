"""Tensors of a strategy's own and a whole run: what is refused before it is, and what is found of it after."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.results.ticket import export_global, export_ticket
from lotteryfl.server.results.view import open_run
from lotteryfl.server.rounds.longer import with_settings
from lotteryfl.server.rpc.filestream import model_stream
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.cell import Cell
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.feddst import FedDST
from lotteryfl.server.strategies.fedltn import FedLTN
from lotteryfl.server.strategies.fedselect import FedSelect
from lotteryfl.server.strategies.ssfl import SSFL
from lotteryfl.server.strategies.standalone import Standalone
from tests.support.bench import Bench, TinyTask, create, simulated, tiny_experiment, tiny_mlp
from tests.support.damage import flip, problems, rewritten
from tests.support.strategytensors import Holding, holding, play

Drive = Callable[..., Bench]

W = "0.weight"


@pytest.fixture(autouse=True)
def _holding(own_strategies: None) -> None:
    STRATEGIES["holding"] = Holding


# ---- what is refused


class WithOne(FedAvg):
    """One tensor, of what `strategy.options` says."""

    name = "with-one"

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        del table
        options: dict[str, Any] = dict(self.experiment.strategy.options)
        shape = (options.pop("size"),) if "size" in options else ()
        return (StrategyTensor("x", shape=shape, **options),)


class Apart(WithOne, Standalone):
    name = "apart"
    aggregates = False


class ExchangingOwn(WithOne, FedDST):
    name = "exchanging-own"
    starts_under = "shared mask"


class Changing(WithOne):
    name = "changing"
    sends_changes = True


@pytest.mark.parametrize(
    ("name", "options", "changes", "message"),
    [
        (
            "with-one",
            {"role": "shared"},
            {"privacy": {"clip_norm": 1.0}},
            "'x' is a tensor of its own, which [privacy]",
        ),
        ("with-one", {"role": "up"}, {"engine": {"stacked": 2}}, "'x' is a tensor of its own, and engine.stacked = 2"),
        ("apart", {"role": "shared"}, {}, "'x' is put together from results, and with this strategy none are"),
        ("apart", {"role": "up"}, {}, "'x' is put together from results, and with this strategy none are"),
        (
            "with-one",
            {"role": "own"},
            {"evaluation": {"global_every": 1}},
            "'x' is each client's own: expected evaluation.global_every = 0, not 1",
        ),
        (
            "exchanging-own",
            {"role": "own", "like": "prunable", "masked": True},
            {},
            "'x:0.weight' is each client's own and masked, and with this strategy a client has no mask of its own",
        ),
        ("changing", {"role": "own"}, {}, "'x' is each client's own, and with this strategy results are nobody's"),
        ("with-one", {"role": "lent"}, {}, "its tensors: 'x': role = 'lent', expected one of 'shared', 'own', 'up'"),
        ("with-one", {"role": "own", "size": -1}, {}, "its tensors: tensor table[4]['shape'][0]: Input should be"),
    ],
)
def test_what_does_not_go_together_is_named_before_the_run_is(
    tmp_path: Path, name: str, options: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    STRATEGIES.update({each.name: each for each in (WithOne, Apart, Changing, ExchangingOwn)})
    experiment = tiny_experiment(strategy={"name": name, "options": options}, **changes)
    with pytest.raises(ExperimentError) as caught:
        create(tmp_path / "run", experiment, TinyTask())
    assert str(caught.value).startswith(f"strategy.name = {name!r}: {message}")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_is_a_clients_own_goes_round_where_nothing_is_put_together(drive: Drive) -> None:
    STRATEGIES["apart"] = Apart
    bench = drive(tiny_experiment(strategy={"name": "apart", "options": {"role": "own", "size": 2}}))
    play(bench, lambda client, answer: answer.entries["dense/x"].fill_(client + 1))
    for row in bench.run.database.clients():
        if row.ticket:
            assert open_file(bench.run.path / row.ticket)["dense/x"].tolist() == [row.client + 1] * 2
    assert bench.finish().run.state == "finished"


class OfOtherTensors(Holding):
    """What `Holding` has become since."""

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        return super().tensors(table)[:-1]


def test_other_tensors_than_the_run_was_set_up_with_are_named(drive: Drive) -> None:
    bench = drive(holding())
    STRATEGIES["holding"] = OfOtherTensors
    with pytest.raises(ExperimentError, match="not those that the run was set up with: tensor 'norm' is there, but no"):
        bench.restart()


class SendingWhatIsNot(Holding):
    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        plan = super().plan(round_, client)
        plan.sends.append("control")
        return plan


def test_a_plan_that_sends_what_does_not_go_up_is_named(drive: Drive) -> None:
    STRATEGIES["holding"] = SendingWhatIsNot
    with pytest.raises(
        ExperimentError, match="a plan sends 'control', expected some of its tensors that only go up: n"
    ):
        drive(holding())


def test_a_run_whose_clients_were_measured_with_own_ones_is_not_made_longer(drive: Drive) -> None:
    bench = drive(holding()).finish()
    with pytest.raises(LotteryFLError, match=r"which they go on from: 'mine:0\.weight' is each client's own"):
        with_settings(bench.run, ["rounds=3"])


# ---- what is found of a run


def test_a_flipped_byte_is_found_wherever_it_is(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", holding()) as run:
        write_summary(run)
        model, ticket = run.model_path(2), run.path / run.database.clients()[0].ticket
    with rewritten(model) as tensors:
        tensors["count"] += 1
    assert any("model_sha256" in problem for problem in problems(run.path))
    with rewritten(model) as tensors:
        tensors["count"] -= 1
    assert problems(run.path) == []
    flip(ticket, 0 - 1)
    assert any("tickets_sha256" in problem or "last byte" in problem for problem in problems(run.path))


def test_models_that_go_out_are_the_tasks_own(tmp_path: Path) -> None:
    """What all share, and what is a client's, lie beside."""
    names = {"0.bias", W, "2.bias", "2.weight"}
    with simulated(tmp_path / "run", holding()) as run:
        export_global(run, tmp_path / "all.safetensors")
        export_ticket(run, 1, tmp_path / "one")
        streamed = parse(bytearray().join(model_stream(run, 2)), "model")
    assert set(streamed) == set(open_file(tmp_path / "all.safetensors")) == set(open_file(tmp_path / "one")) == names
    TinyTask().model().load_state_dict(streamed)
    assert {name.split(":")[0] for name in open_file(tmp_path / "all-strategy.safetensors")} == {
        "control", "count", "moment",
    }  # fmt: skip
    own = open_file(tmp_path / "one-strategy.safetensors")
    assert {name.split(":")[0] for name in own} == {"mine", "seen"}
    with open_run(tmp_path / "run") as view:
        assert set(view.global_model()) == set(view.ticket(1)) == names
        assert digest(view.strategy_tensors(1)) == digest(own)
        assert view.strategy_tensors()["count"].item() == 13.5


def bias_frozen() -> nn.Module:
    model = tiny_mlp()
    model.get_parameter("2.bias").requires_grad_(False)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {"wire_dtype": "int8", "aggregation": {"rule": "trimmed_mean"}},
        {"strategy": {"name": "holding", "personal": ["0.*"]}, "server": {"optimizer": "adam"}},
    ],
    ids=str,
)
def test_they_go_with_all_else_that_an_experiment_says(changes: dict[str, Any], tmp_path: Path) -> None:
    """And with what is frozen of the model, which nothing of theirs is like."""
    with simulated(tmp_path / "run", holding(**changes), TinyTask(bias_frozen)) as run:
        assert {row.state for round_ in (1, 2, 3) for row in run.database.assignments(round_)} == {"done"}
        model = open_file(run.model_path(2))
        assert set(parse(bytearray().join(model_stream(run, 2)), "model")) == {"0.bias", W, "2.bias", "2.weight"}
    assert {name for name in model if name.startswith("control")} == {f"control:{n}" for n in ("0.bias", W, "2.weight")}
    assert model["count"].item() == 13.5
    assert problems(tmp_path / "run") == []


@pytest.mark.parametrize("base", [Cell, SSFL, FedSelect, FedLTN], ids=lambda base: base.name)
def test_they_go_with_every_kind_of_strategy(base: type[Strategy], tmp_path: Path) -> None:
    """Masks of no lasting, measurements, own weights, a jump start: a round that measures changes none of them."""

    class Adding(base):  # type: ignore[misc, valid-type]
        name = "adding"

        def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
            del table
            return (
                StrategyTensor("moment", "shared", like="prunable", combine="kept", masked=True, fill=2.0),
                StrategyTensor("number", "shared", combine="sum", fill=1.0),
                StrategyTensor("mine", "own", like="prunable"),
                StrategyTensor("votes", "up", like="prunable", dtype=torch.bool),
            )

        def plan(self, round_: int, client: ClientState) -> pb.Plan:
            plan: pb.Plan = super().plan(round_, client)
            plan.sends.append("votes")
            return plan

    STRATEGIES["adding"] = Adding
    settings = {"name": "adding", "personal_rate": 0.1, "jump_start_epochs": 1}
    with simulated(tmp_path / "run", tiny_experiment(strategy=settings)) as run:
        assert {row.state for round_ in (1, 2, 3) for row in run.database.assignments(round_)} == {"done"}
        strategy = Adding(run.experiment)
        senders = [3 if strategy.trains(round_) and not strategy.takes_best(round_) else 1 for round_ in (1, 2)]
        assert open_file(run.model_path(2))["number"].item() == math.prod(senders)
    assert problems(tmp_path / "run") == []
