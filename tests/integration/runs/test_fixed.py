"""What a strategy keeps fixed travels once, with θ_0, and is never another; it can have tensors that are like it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lotteryfl.client.work.frozen import Frozen
from lotteryfl.common.errors import ExperimentError, PayloadError, TaskError
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.wire.payload import plain_name
from lotteryfl.common.wire.samemodel import check_same_model
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.ticket import export_ticket
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.fedavg import FedAvg
from tests.support import normed_task
from tests.support.bench import Bench, TinyTask, tiny_experiment, tiny_mlp
from tests.support.damage import problems
from tests.support.handworker import HandWorker
from tests.support.runs import Coordinate, Write

FIXED = {"0.weight", "0.bias", "3.weight"}


class Fixing(FedAvg):
    """Trains biases, norm and last layer alone; `strategy.options` may name another parameter."""

    name = "fixing"

    def fixed(self, table: TensorTable) -> frozenset[str]:
        assert "0.weight" in table
        return frozenset({str(self.experiment.strategy.options.get("also", "0.bias")), "0.weight", "3.weight"})

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        assert "0.weight" not in table
        return [StrategyTensor("like", "shared", like="prunable"), StrategyTensor("moving", "own", like="parameters")]


@pytest.fixture(autouse=True)
def _fixing() -> Iterator[None]:
    STRATEGIES["fixing"] = Fixing
    yield
    del STRATEGIES["fixing"]


EXPERIMENT: Mapping[str, Any] = {
    "rounds": 2,
    "clients": 2,
    "clients_per_round": 2,
    "task": {"name": normed_task.__file__},
    "training": {"epochs": 1, "lr": 0.1},
    "strategy": {"name": "fixing"},
}


def test_it_is_in_no_round_and_in_every_model(coordinate: Coordinate, write: Write, tmp_path: Path) -> None:
    server = coordinate(write(EXPERIMENT))
    worker, run = HandWorker(server), server.run
    whole = set(normed_task.model().state_dict())
    while not (parts := worker.poll())[0].none.finished:
        down = parse(bytearray(b"".join(part.chunk for part in parts)), "payload")
        done = worker.do(parts)
        names = {f"like:{name}" for name in ("0.weight", "3.weight", "5.weight")}
        names |= {f"moving:{name}" for name in ("1.weight", "1.bias", "3.bias", "5.weight", "5.bias")}
        for entries in (down, done.entries):
            assert not entries or set(map(plain_name, entries)) == names | (whole - FIXED)
        assert worker.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED
    assert server.ended() == ""
    assert problems(run.path) == []
    initial, last = open_file(run.model_path(0)), open_file(run.model_path(2))
    assert initial.keys() >= FIXED
    assert not FIXED & last.keys()
    assert not torch.equal(initial["5.weight"], last["5.weight"])
    export_ticket(run, 1, tmp_path / "ticket.safetensors")
    exported = open_file(tmp_path / "ticket.safetensors")
    assert exported.keys() == whole
    assert all(torch.equal(exported[name], initial[name]) for name in FIXED)


def test_a_run_goes_on_with_what_was_fixed_alone(drive: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fixing, "fixed", lambda _self, _table: frozenset({"0.weight", "2.bias"}))
    bench = drive(tiny_experiment(strategy={"name": "fixing"}))
    bench.restart()
    monkeypatch.setattr(Fixing, "fixed", lambda _self, _table: frozenset({"0.weight"}))
    with pytest.raises(ExperimentError, match=r"not those that the run was set up with: .*'2.bias': role is parameter"):
        bench.restart()


@pytest.mark.parametrize("name", ["nothing", "1.running_mean"])
def test_what_cannot_be_fixed_is_named(coordinate: Coordinate, write: Write, name: str) -> None:
    with pytest.raises(ExperimentError, match=f"'fixing': .*fixed: '{name}' is no parameter that the task trains"):
        coordinate(write(EXPERIMENT, strategy={"name": "fixing", "options": {"also": name}}))


def test_who_prunes_keeps_no_such_weight_fixed(drive: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fixing, "prunes", True)
    with pytest.raises(ExperimentError, match=r"'fixing': keeps '0\.weight' fixed, which is prunable, and prunes"):
        drive(tiny_experiment(strategy={"name": "fixing", "options": {"also": "2.bias"}}), TinyTask(tiny_longer))


def tiny_longer() -> torch.nn.Module:
    return torch.nn.Sequential(*tiny_mlp().children(), torch.nn.Linear(3, 3))


def test_a_worker_knows_its_tasks_model_in_it_and_no_other() -> None:
    experiment, table = tiny_experiment(), TensorTable.of(tiny_mlp()).fixing({"0.weight"})
    assert TensorTable.from_json(table.to_json()) == table
    check_same_model(TinyTask(), experiment, table, knows_frozen=True)
    with pytest.raises(TaskError, match=r"'0\.weight': prunable is False here"):
        check_same_model(TinyTask(_partly_frozen), experiment, table, knows_frozen=True)


def _partly_frozen() -> torch.nn.Module:
    model = tiny_mlp()
    model.get_submodule("0").requires_grad_(False)
    return model


def test_work_that_changes_it_is_no_result() -> None:
    model = tiny_mlp()
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    frozen = Frozen(TensorTable.of(model).fixing({"0.weight"}), initial)
    frozen.put_into(model)
    assert [name for name, each in model.named_parameters() if not each.requires_grad] == ["0.weight"]
    frozen.require_unchanged(model.state_dict())
    with pytest.raises(PayloadError, match=r"0\.weight: is frozen, and has changed"):
        frozen.require_unchanged({**initial, "0.weight": initial["0.weight"] + 1})
