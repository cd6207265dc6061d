"""Methods with a half of their own on the client, as an outsider writes them: the examples, against their papers."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from lotteryfl.common.tensors.file import open_file
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.paths import ROOT
from tests.support.runs import Start, Write, assert_same_bits, read_summary

TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

def model():
    return nn.Linear(6, 3)

def client(k, experiment):
    inputs = torch.randn(40, 6, generator=torch.Generator().manual_seed(k))
    labels = inputs.roll(k, dims=1)[:, :3].argmax(dim=1)
    return [TensorDataset(*part) for part in zip(inputs.split([20 + k, 8, 12 - k]), labels.split([20 + k, 8, 12 - k]))]
"""
ROUNDS, CLIENTS, EPOCHS, LR = 2, 3, 3, 0.2
EXPERIMENT: dict[str, Any] = {
    "seed": 3,
    "rounds": ROUNDS,
    "clients": CLIENTS,
    "clients_per_round": CLIENTS,
    "task": {"name": "task.py"},
    "training": {"epochs": EPOCHS, "batch_size": 99, "lr": LR, "momentum": 0.0},
    "strategy": {"prunable": "matrices", "target_density": 0.5},
}
METHODS = [pytest.param("ditto", marks=pytest.mark.slow), "scaffold", pytest.param("sparsyfed", marks=pytest.mark.slow)]
Net = dict[str, Tensor]


def example(method: str) -> Path:
    return ROOT / "examples" / f"{method}.py"


@pytest.fixture
def experiment(tmp_path: Path, write: Write) -> Callable[..., Path]:
    (tmp_path / "task.py").write_text(TASK)

    def write_(method: str, **changes: Any) -> Path:
        strategy = {"name": f"{method}-example", **changes.pop("strategy", {})}
        return write(EXPERIMENT, strategy=strategy, **changes)

    return write_


def examples(k: int) -> int:
    return 20 + k


def clients_data(k: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(40, 6, generator=torch.Generator().manual_seed(k))
    labels = inputs.roll(k, dims=1)[:, :3].argmax(dim=1)
    return inputs[: examples(k)], labels[: examples(k)]


def gradients(net: Net, k: int, transform: Callable[[Tensor], Tensor] = lambda value: value) -> Net:
    inputs, labels = clients_data(k)
    leaves = {name: value.clone().requires_grad_() for name, value in net.items()}
    used = {name: transform(value) if value.dim() > 1 else value for name, value in leaves.items()}
    loss = F.cross_entropy(F.linear(inputs, used["weight"], used["bias"]), labels)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def mean(nets: list[Net], weights: list[int]) -> Net:
    shares = torch.tensor(weights) / sum(weights)
    return {name: torch.einsum("k,k...->...", shares, torch.stack([net[name] for net in nets])) for name in nets[0]}


def scaffold(shared: Net) -> tuple[Net, list[Net]]:
    """Karimireddy et al. 2020, Algorithm 1, option II."""
    zero = {name: torch.zeros_like(value) for name, value in shared.items()}
    c, c_k = zero, [zero] * CLIENTS
    for _ in range(ROUNDS):
        models, variates = [], []
        for k in range(CLIENTS):
            y = shared
            for _ in range(EPOCHS):
                g = gradients(y, k)
                y = {name: y[name] - LR * (g[name] - c_k[k][name] + c[name]) for name in y}
            models.append(y)
            variates.append(
                {name: c_k[k][name] - c[name] + (shared[name] - y[name]) / (EPOCHS * LR) for name in shared}
            )
        moved = [{name: new[name] - old[name] for name in new} for new, old in zip(variates, c_k, strict=True)]
        shared, c_k = mean(models, [1] * CLIENTS), variates
        c = {name: c[name] + mean(moved, [1] * CLIENTS)[name] for name in c}
    return shared, c_k


def ditto(shared: Net, pull: float) -> tuple[Net, list[Net]]:
    """Li et al. 2021, Algorithm 1; a client's own model begins as the shared one."""
    own = [shared] * CLIENTS
    for round_ in range(ROUNDS + 1):  # after the last all train what is their own once more
        models = []
        for k in range(CLIENTS):
            y, v = shared, own[k]
            for _ in range(EPOCHS):
                g, g_own = gradients(y, k), gradients(v, k)
                y = {name: y[name] - LR * g[name] for name in y}
                v = {name: v[name] - LR * (g_own[name] + pull * (v[name] - shared[name])) for name in v}
            models.append(y)
            own[k] = v
        if round_ < ROUNDS:
            shared = mean(models, [examples(k) for k in range(CLIENTS)])
    return shared, own


def sparsyfed(shared: Net, beta: float) -> tuple[Net, list[Net]]:
    """Guastella et al. 2025: Powerprop's weights, the largest of which are left after training."""

    def power(value: Tensor, exponent: float) -> Tensor:
        return value.sign() * value.abs() ** exponent

    found: list[Net] = []
    for _ in range(ROUNDS):
        found = []
        for k in range(CLIENTS):
            phi = {**shared, "weight": power(shared["weight"], 1 / beta)}
            for _ in range(EPOCHS):
                g = gradients(phi, k, lambda value: power(value, beta))
                phi = {name: phi[name] - LR * torch.nan_to_num(g[name]) for name in phi}
            w = power(phi["weight"], beta)
            kept = w.abs() >= w.abs().flatten().sort(descending=True).values[w.numel() // 2 - 1]
            found.append({**phi, "weight": w * kept})
        shared = mean(found, [examples(k) for k in range(CLIENTS)])
    return shared, found


ORACLES: dict[str, Callable[[Net], tuple[Net, list[Net]]]] = {
    "scaffold": scaffold,
    "ditto": lambda shared: ditto(shared, 0.7),
    "sparsyfed": lambda shared: sparsyfed(shared, 1.25),
}
OPTIONS = {"ditto": {"pull": 0.7}}
OWN = {"scaffold": "c_k:", "ditto": "personal:"}


@pytest.mark.parametrize("method", METHODS)
def test_an_example_over_grpc_does_what_its_paper_says(
    method: str, tmp_path: Path, start: Start, experiment: Callable[..., Path]
) -> None:
    path = experiment(method, strategy={"options": OPTIONS.get(method, {})})
    run = start("run", path, "--workers", 2, "--run-dir", "run", "--strategy", example(method))
    assert run.exit_code() == 0, run.stderr
    with RunDirectory(tmp_path / "run") as directory:
        initial = dict(open_file(directory.model_path(0)))
        shared, own = ORACLES[method]({name: initial[name] for name in ("weight", "bias")})
        found = open_file(directory.model_path(ROUNDS))
        for name, value in shared.items():
            torch.testing.assert_close(found[name], value)
        for k in range(CLIENTS if method in OWN else 0):
            entries = open_file(directory.tensor_path(directory.database.client(k).ticket))
            for name, value in own[k].items():
                torch.testing.assert_close(entries[f"dense/{OWN[method]}{name}"], value)
    verified = start("verify", "run", "--strategy", example(method))
    assert verified.exit_code() == 0, verified.stdout


@pytest.mark.slow  # test_local_algorithms and test_strategy_tensors have the same of smaller ones
@pytest.mark.parametrize("method", METHODS)
def test_one_worker_three_and_one_killed_give_the_bits_of_one_process(
    method: str, tmp_path: Path, start: Start, experiment: Callable[..., Path]
) -> None:
    path = experiment(method, rounds=3)
    named = ("--strategy", example(method))
    simulated = start("simulate", path, "--run-dir", "simulated", *named)
    assert simulated.exit_code() == 0, simulated.stderr
    expected = read_summary(tmp_path / "simulated")
    for workers in (1, 3):
        run = start("run", path, "--workers", workers, "--run-dir", f"run-{workers}", *named)
        assert run.exit_code() == 0, run.stderr
        assert_same_bits(tmp_path / f"run-{workers}", expected)
    killed = start("run", path, "--workers", 2, "--run-dir", "killed", *named)
    killed.said("round 1")
    killed.send(signal.SIGKILL)
    killed.exit_code()
    again = start("run", "killed", "--workers", 2, "--task", "task.py", *named)
    assert again.exit_code() == 0, again.stderr
    assert_same_bits(tmp_path / "killed", expected)


@pytest.mark.parametrize("method", [pytest.param("ditto", marks=pytest.mark.slow), "scaffold"])
def test_an_example_leaves_what_is_frozen_alone(
    method: str, tmp_path: Path, start: Start, experiment: Callable[..., Path]
) -> None:
    path = experiment(method)
    (tmp_path / "task.py").write_text(
        TASK.replace("nn.Linear(6, 3)", "nn.Sequential(nn.Linear(6, 6).requires_grad_(False), nn.Linear(6, 3))")
    )
    run = start("simulate", path, "--run-dir", "run", "--strategy", example(method))
    assert run.exit_code() == 0, run.stderr


def test_the_scaffold_example_is_the_built_in_one_with_momentum_too(
    tmp_path: Path, start: Start, experiment: Callable[..., Path]
) -> None:
    training = {**EXPERIMENT["training"], "momentum": 0.9}
    for name in ("scaffold-example", "scaffold"):
        path = experiment("scaffold", strategy={"name": name}, training=training)
        run = start("simulate", path, "--run-dir", name, "--strategy", example("scaffold"))
        assert run.exit_code() == 0, run.stderr
    with RunDirectory(tmp_path / "scaffold-example") as one, RunDirectory(tmp_path / "scaffold") as other:
        found, expected = (dict(open_file(each.model_path(ROUNDS))) for each in (one, other))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
