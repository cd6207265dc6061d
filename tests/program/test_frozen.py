"""What is frozen on either side: never in a result, never changed, and in tables from before it had a role."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lotteryfl.common.errors import LotteryFLError, PayloadError, TaskError
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.tensors.file import open_file, save
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.setup import set_up
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import CPU, Bench, TinyTask, create, silent, simulated, tiny_experiment, tiny_mlp
from tests.support.damage import problems


class OnBackbone(nn.Module):
    """A head on a frozen layer and a scale, and something that its forward does to what is frozen."""

    def __init__(self, does: Callable[["OnBackbone"], object] = lambda model: None) -> None:
        super().__init__()
        self.backbone = nn.Linear(6, 6).requires_grad_(False)
        self.register_buffer("scale", torch.tensor([2.0, torch.inf, torch.nan]))
        self.head = nn.Linear(6, 3)
        self._does = does

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self._does(self)
        output: Tensor = self.head(self.backbone(inputs).relu() * self.get_buffer("scale")[0])
        return output


class FrozenTask(TinyTask):
    """Its buffer is frozen."""

    def __init__(self, build: Callable[[], nn.Module] = OnBackbone, frozen: tuple[str, ...] = ("sca*",)) -> None:
        super().__init__(build)
        self.frozen = frozen


def unfrozen(run: RunDirectory) -> None:
    """Make the run one of a program that had no role for what is frozen."""
    with run.database.transaction():
        run.database.put("table", run.database.get("table").replace('"frozen"', '"parameter"'))
        run.database.put("knows_frozen", "")
    run.knows_frozen = False


# ---- the table


def test_the_role_of_what_does_not_train() -> None:
    table = TensorTable.of(OnBackbone(), "matrices", ["scale"])
    assert [spec.name for spec in table.frozen] == ["backbone.bias", "backbone.weight", "scale"]
    assert [spec.name for spec in table.moving] == ["head.bias", "head.weight"]
    assert TensorTable.from_json(table.to_json()) == table
    assert TensorTable.of(OnBackbone())["scale"].role == "buffer"
    every = TensorTable.of(OnBackbone(), "every-weight")
    assert every["backbone.weight"].role == "parameter", "it is pruned, and so it changes"
    assert every["backbone.bias"].role == "frozen"
    before = TensorTable.of(OnBackbone(), knows_frozen=False)
    assert before.moving is before
    assert before["backbone.weight"].role == "parameter"
    with pytest.raises(ValueError, match="'w' is prunable: expected a parameter of floating point"):
        TensorSpec("w", torch.float32, (2,), "frozen", True)


@pytest.mark.parametrize("pattern", ["scales", "backbone.weight"])
def test_a_pattern_that_fits_no_buffer_is_refused(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=f"task tiny: .* frozen: '{pattern}' fits no buffer; .* for some of scale"):
        set_up(tmp_path / "run", tiny_experiment(), FrozenTask(frozen=(pattern,)))


# ---- a round


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"wire_dtype": "int8"},
        {"strategy": {"name": "feddst", "readjust_every": 1}},
        {"strategy": {"name": "fedavg"}, "server": {"optimizer": "adam"}},
        {"strategy": {"name": "fedselect"}},
        {"privacy": {"clip_norm": 0.1}, "strategy": {"name": "fedavg"}},
        {"checks": {"max_update_norm": 0.1, "on_large_update": "clip"}},
        {"aggregation": {"rule": "median"}},
    ],
    ids=str,
)
def test_frozen_tensors_are_in_no_file_but_that_of_theta_0(changes: dict[str, Any], tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(**changes), FrozenTask()) as run:
        assert verify(run.path).problems == 0
        assert {row.state for round_ in (1, 2, 3) for row in run.database.assignments(round_)} == {"done"}
        assert set(open_file(run.model_path(2))) == {"head.bias", "head.weight"}
        first, last = run.global_model(0), run.global_model(2)
        assert not torch.equal(first["head.bias"], last["head.bias"])
        assert digest(last) == run.database.get("model_sha256")
        assert digest({"scale": last["scale"]}) == digest({"scale": first["scale"]})


def test_the_same_results_come_of_a_table_from_before_the_role(tmp_path: Path) -> None:
    """And then all travels, as it did."""
    experiment, task = tiny_experiment(rounds=3), FrozenTask(frozen=())
    expected = simulated(tmp_path / "new", experiment, task)
    run = create(tmp_path / "old", experiment, task)
    unfrozen(run)
    run.close()
    with expected, RunDirectory(tmp_path / "old") as run:
        Simulation(run, task, CPU).run(silent)
        assert verify(run.path).problems == 0
        assert "backbone.weight" in open_file(run.model_path(3))
        assert run.database.get("model_sha256") == expected.database.get("model_sha256")


def bias_frozen() -> nn.Module:
    model = tiny_mlp()
    model.get_parameter("2.bias").requires_grad_(False)
    return model


def test_what_is_frozen_on_one_side_alone_is_named(tmp_path: Path) -> None:
    """Also where nothing is on the other; and not where its version had no word for it."""
    with create(tmp_path / "run", tiny_experiment(), TinyTask()) as run:
        with pytest.raises(
            TaskError, match=r"not the coordinator's: tensor '2\.bias': role is frozen here, parameter t"
        ):
            Simulation(run, TinyTask(bias_frozen), CPU)
        unfrozen(run)
        Simulation(run, TinyTask(bias_frozen), CPU)
    with (
        create(tmp_path / "other", tiny_experiment(), TinyTask(bias_frozen)) as run,
        pytest.raises(TaskError, match=r"tensor '2\.bias': role is parameter here, frozen there"),
    ):
        Simulation(run, TinyTask(), CPU)


def test_verify_names_what_is_not_as_it_was_set_up(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(), FrozenTask()) as run:
        whole = {name: tensor.clone() for name, tensor in run.global_model(0).items()}
        path = run.model_path(0)
    whole["backbone.bias"][1] = 7.0
    save(path, whole)
    assert any("model_sha256" in problem for problem in problems(tmp_path / "run"))
    del whole["backbone.bias"]
    save(path, whole)
    assert any("backbone.bias: missing, expected what is frozen" in problem for problem in problems(tmp_path / "run"))


@pytest.mark.parametrize(
    ("does", "name"),
    [
        (lambda model: model.backbone.weight.data.mul_(1.5), "backbone.weight"),
        (lambda model: model.get_buffer("scale").add_(1), "scale"),
    ],
)
def test_a_frozen_tensor_that_changed_is_refused_by_name(
    does: Callable[[OnBackbone], object], name: str, tmp_path: Path
) -> None:
    with pytest.raises(LotteryFLError, match=f"{name}: is frozen, and has changed: expected only"):
        simulated(tmp_path / "run", tiny_experiment(), FrozenTask(lambda: OnBackbone(does)))


def test_what_one_piece_of_work_does_to_a_frozen_tensor_is_not_in_the_next(drive: Any) -> None:
    def does(model: OnBackbone) -> None:
        if not done:
            model.backbone.weight.data.mul_(2)
        done.append(model)

    done: list[OnBackbone] = []
    bench: Bench = drive(task=FrozenTask(lambda: OnBackbone(does)))
    worker = bench.register()
    work = bench.take(worker)
    with pytest.raises(PayloadError, match=r"^backbone\.weight: is frozen"):
        bench.do(work)
    assert bench.submit(worker, bench.do(work)).reason == ""


@pytest.mark.parametrize("name", ["backbone.weight", "scale"])
def test_a_result_that_holds_a_frozen_tensor_is_refused_by_name(name: str, drive: Any) -> None:
    bench: Bench = drive(task=FrozenTask())
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    answer.entries[f"dense/{name}"] = bench.run.global_model(0)[name]
    assert f"'dense/{name}': unexpected" in bench.submit(worker, answer).reason
