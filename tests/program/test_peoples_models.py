"""Models as people have them, through whole runs: constants that are not finite, frozen layers, weight norm."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from lotteryfl.common.errors import LotteryFLError, TaskError
from lotteryfl.common.tensors.file import open_file, save
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.setup import set_up
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment, tiny_mlp
from tests.support.damage import problems


class Causal(nn.Module):
    """A mask of -inf as transformers have it, and a smallest value seen, which starts at inf."""

    def __init__(self) -> None:
        super().__init__()
        self.net = tiny_mlp()
        self.register_buffer("causal", torch.triu(torch.full((4, 4), -torch.inf), 1))
        self.register_buffer("never", torch.full((2,), torch.nan))
        self.register_buffer("smallest", torch.tensor(torch.inf))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.get_buffer("smallest").clamp_(max=inputs.detach().min())
        output: Tensor = self.net(inputs)
        return output


class Partly(nn.Module):
    """A frozen layer, and one that forward does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.unused = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.head(self.frozen(inputs).relu())
        return output


def normed() -> nn.Module:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(6, 12)), nn.ReLU(), parametrizations.weight_norm(nn.Linear(12, 3))
    )


def assert_nobody_sat_out(run: RunDirectory) -> None:
    rounds = range(1, run.experiment.rounds + 2)
    assert {row.state for round_ in rounds for row in run.database.assignments(round_)} == {"done"}
    assert verify(run.path).problems == 0


# ---- what θ_0 holds may travel


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"wire_dtype": "int8"},
        {"aggregation": {"rule": "median"}},
        {"aggregation": {"rule": "trimmed_mean"}},
        {"server": {"optimizer": "adam"}},
        {"strategy": {"name": "fedavg"}},
        {"strategy": {"name": "feddst", "readjust_every": 1}},
    ],
    ids=str,
)
def test_buffers_that_are_not_finite_go_with_every_model(tmp_path: Path, changes: dict[str, Any]) -> None:
    with simulated(tmp_path / "run", tiny_experiment(**changes), TinyTask(Causal)) as run:
        assert_nobody_sat_out(run)
        first, last = open_file(run.model_path(0)), open_file(run.model_path(2))
        assert torch.equal(first["causal"], last["causal"])
        assert bool(last["never"].isnan().all())
        assert bool(last["smallest"].isfinite())


class Constant(Causal):
    """The mask alone, which nothing changes."""

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.net(inputs)
        return output


@pytest.mark.parametrize(
    "changes",
    [
        {"privacy": {"clip_norm": 0.1}},
        {"checks": {"max_update_norm": 0.1, "on_large_update": "clip"}},
        {"checks": {"max_update_norm": 100.0}},
    ],
    ids=str,
)
def test_constants_that_are_not_finite_count_nothing_in_an_updates_norm(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with simulated(tmp_path / "run", tiny_experiment(**changes), TinyTask(Constant)) as run:
        assert_nobody_sat_out(run)
        first, last = open_file(run.model_path(0)), open_file(run.model_path(2))
        assert torch.equal(first["causal"], last["causal"])
        assert not torch.equal(first["net.0.weight"], last["net.0.weight"])


@pytest.mark.parametrize("value", [-torch.inf, torch.inf, torch.nan])
def test_another_value_that_is_not_finite_is_refused(drive: Any, value: float) -> None:
    bench: Bench = drive(task=TinyTask(Causal))
    worker = bench.register()
    for place, name in (((0, 0), "causal"), ((), "smallest")):
        answer = bench.do(bench.take(worker))
        answer.entries[f"dense/{name}"][place] = value
        reply = bench.submit(worker, answer)
        fine = name == "smallest" and value == torch.inf
        assert ("expected finite, or as in θ_0" in reply.reason) is not fine


def test_verify_names_a_model_that_holds_what_theta_0_does_not(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(), TinyTask(Causal)) as run:
        path = run.model_path(2)
    tensors = {name: tensor.clone() for name, tensor in open_file(path).items()}
    tensors["causal"][0, 0] = torch.inf
    save(path, tensors)
    assert any("dense/causal: value inf at flat index 0" in problem for problem in problems(tmp_path / "run"))


def spoilt(value: float) -> nn.Module:
    model = tiny_mlp()
    with torch.no_grad():
        next(model.parameters())[2, 3] = value
    return model


def long_named() -> nn.Module:
    model = tiny_mlp()
    model.register_buffer("b" * 513, torch.zeros(1))
    return model


def reserved() -> nn.Module:
    model = tiny_mlp()
    model.register_buffer("__metadata__", torch.zeros(1))
    return model


def pruned() -> nn.Module:
    model = tiny_mlp()
    prune.l1_unstructured(model.get_submodule("0"), "weight", amount=0.5)
    return model


def scripted() -> nn.Module:
    model: nn.Module = torch.jit.script(tiny_mlp())
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: spoilt(torch.nan), r"cannot travel: dense/0\.weight: value nan at flat index 15, expected finite$"),
        (lambda: spoilt(-torch.inf), r"cannot travel: dense/0\.weight: value -inf at flat index 15, expected finite$"),
        (
            lambda: spoilt(torch.nan).requires_grad_(False),
            r"cannot travel: dense/0\.weight: value nan at flat index 15",
        ),
        (long_named, r"cannot travel: tensor table.* at most 512 characters"),
        (reserved, r"cannot travel: __metadata__: this name is reserved"),
        (
            pruned,
            r"task tiny: model\(\) returned a pruned model \('0\.weight' has a mask\), and a run begins with a dense",
        ),
        (scripted, r"cannot travel: the model is a scripted module"),
    ],
)
def test_what_results_would_be_refused_for_is_refused_at_set_up(tmp_path: Path, model: Any, reason: str) -> None:
    with pytest.raises(TaskError, match=reason):
        set_up(tmp_path / "run", tiny_experiment(), TinyTask(model))
    assert not (tmp_path / "run").exists()


def test_a_model_of_one_output_ends_its_run_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        LotteryFLError,
        match=r"the run failed: .* were given up; the model's output has shape \(8, 1\): expected logits",
    ):
        simulated(tmp_path / "run", tiny_experiment(), TinyTask(lambda: nn.Linear(6, 1)))


# ---- what does not train


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "feddst", "readjust_every": 1},
        {"name": "feddst", "readjust_every": 1, "readjust_rate": 1.0},
        {"name": "ssfl"},
        {"name": "one-ticket", "personal": ["head.bias"]},
        {"name": "sub-fedavg", "min_mask_change": 0.0},
        {"name": "hermes"},
        {"name": "fedselect"},
        {"name": "lotteryfl", "rewind": "everything"},
    ],
    ids=str,
)
def test_frozen_and_unused_layers_with_every_way_to_prune(tmp_path: Path, strategy: dict[str, Any]) -> None:
    with simulated(tmp_path / "run", tiny_experiment(rounds=4, strategy=strategy), TinyTask(Partly)) as run:
        assert_nobody_sat_out(run)
        first, last = run.global_model(0), run.global_model(run.model_round)
        assert torch.equal(first["frozen.weight"], last["frozen.weight"])


@pytest.mark.parametrize("name", ["lotteryfl", "fedavg"])
@pytest.mark.parametrize("dp_sgd", [True, False])
def test_frozen_and_unused_layers(tmp_path: Path, name: str, dp_sgd: bool) -> None:
    if dp_sgd:
        pytest.importorskip("opacus")
    experiment = tiny_experiment(rounds=3, strategy={"name": name}, privacy={"dp_sgd": dp_sgd})
    with simulated(tmp_path / "run", experiment, TinyTask(Partly)) as run:
        assert_nobody_sat_out(run)
        assert [spec.name for spec in run.table if spec.prunable] == ["head.weight", "unused.weight"]
        first, last = run.global_model(0), run.global_model(3)
        assert torch.equal(first["frozen.weight"], last["frozen.weight"])
        mask = run.load_masks(run.database.clients()[0].mask)
        assert set(mask) == ({"head.weight", "unused.weight"} if name == "lotteryfl" else set())


# ---- weight norm


@pytest.mark.parametrize("name", ["lotteryfl", "hermes", "ssfl", "feddst"])
def test_weight_norm_at_a_twentieth(tmp_path: Path, name: str) -> None:
    strategy = {"name": name, "prune_rate": 0.95, "target_density": 0.05, "readjust_every": 1}
    experiment = tiny_experiment(rounds=4, strategy=strategy)
    with simulated(tmp_path / "run", experiment, TinyTask(normed)) as run:
        assert_nobody_sat_out(run)
        assert [spec.name for spec in run.table if spec.prunable] == [
            "0.parametrizations.weight.original1",
            "2.parametrizations.weight.original1",
        ]
