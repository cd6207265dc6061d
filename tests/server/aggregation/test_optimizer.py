"""The server's optimizer against torch's on the whole model, against the papers' formulas, and over restarts."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lotteryfl.common.errors import ExperimentError, PayloadError
from lotteryfl.common.experiment.settings import ServerSettings
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.aggregation.optimizer import ServerOptimizer, check_state
from lotteryfl.server.store.runfiles import optimizer_file
from tests.support.bench import Bench, Tied, TinyTask, simulated, tiny_experiment

Drive = Callable[..., Bench]
Factory = Callable[..., torch.optim.Optimizer]

needs_yogi = pytest.mark.skipif(
    importlib.util.find_spec("pytorch_optimizer") is None, reason="pytorch_optimizer is not installed"
)
OPTIMIZERS = ["sgd", "adam", pytest.param("yogi", marks=needs_yogi)]


def by_torch(settings: ServerSettings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, settings.lr, momentum=settings.momentum)
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, settings.lr, betas=settings.betas, eps=settings.eps)
    return pytest.importorskip("pytorch_optimizer").Yogi(  # type: ignore[no-any-return]
        parameters, settings.lr, betas=settings.betas, eps=settings.eps
    )


def three_rounds(
    settings: ServerSettings,
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]], dict[str, Tensor]]:
    """Return the models before every round and after the last, the means of the rounds, and the last state."""
    model = Tied()
    table, current = TensorTable.of(model), {name: t.clone() for name, t in named_tensors(model).items()}
    generator, state = torch.Generator().manual_seed(0), dict[str, Tensor]()
    models, means = [current], []
    for _ in range(3):
        mean = {
            name: t + torch.randn(t.shape, generator=generator) if t.is_floating_point() else t + 1
            for name, t in current.items()
        }
        optimizer = ServerOptimizer(settings, state)
        current = {name: t.clone() for name, t in optimizer.steps(table, current, iter(mean.items()))}
        state = optimizer.state
        models.append(current)
        means.append(mean)
    return models, means, state


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_tensor_by_tensor_and_round_by_round_it_is_torchs_optimizer_on_the_whole_model(name: Any) -> None:
    settings = ServerSettings(optimizer=name, lr=0.3)
    models, means, state = three_rounds(settings)
    table = TensorTable.of(Tied())
    trained = [spec.name for spec in table if spec.role == "parameter"]
    parameters = [nn.Parameter(models[0][each].clone()) for each in trained]
    optimizer = by_torch(settings, parameters)
    for round_, mean in enumerate(means, start=1):
        for parameter, each in zip(parameters, trained, strict=True):
            parameter.grad = parameter.detach() - mean[each]
        optimizer.step()
        for parameter, each in zip(parameters, trained, strict=True):
            assert torch.equal(parameter.detach(), models[round_][each])
        for spec in table:
            if spec.role == "buffer":
                assert torch.equal(models[round_][spec.name], mean[spec.name])
    check_state(settings, table, state, 3)


def test_momentum_by_its_formula() -> None:
    models, means, _ = three_rounds(ServerSettings(optimizer="sgd", lr=0.5, momentum=0.9))
    expected, velocity = models[0]["head.bias"].double().numpy(), 0.0
    for round_, mean in enumerate(means, start=1):
        velocity = 0.9 * velocity + (expected - mean["head.bias"].double().numpy())
        expected = expected - 0.5 * velocity
        np.testing.assert_allclose(models[round_]["head.bias"].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_adam_by_its_formula() -> None:
    models, means, _ = three_rounds(ServerSettings(optimizer="adam", lr=0.1, betas=(0.9, 0.99), eps=1e-3))
    expected = models[0]["head.bias"].double().numpy()
    first = second = np.zeros_like(expected)
    for round_, mean in enumerate(means, start=1):
        gradient = expected - mean["head.bias"].double().numpy()
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        step = (first / (1 - 0.9**round_)) / (np.sqrt(second / (1 - 0.99**round_)) + 1e-3)
        expected = expected - 0.1 * step
        np.testing.assert_allclose(models[round_]["head.bias"].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_adams_decay_is_beside_its_gradient_as_adamw_has_it() -> None:
    settings = ServerSettings(optimizer="adam", lr=0.3, weight_decay=0.1)
    models, means, state = three_rounds(settings)
    name = "head.bias"
    parameter = nn.Parameter(models[0][name].clone())
    optimizer = torch.optim.AdamW([parameter], 0.3, betas=settings.betas, eps=settings.eps, weight_decay=0.1)
    for round_, mean in enumerate(means, start=1):
        parameter.grad = parameter.detach() - mean[name]
        optimizer.step()
        assert torch.equal(parameter.detach(), models[round_][name])
    check_state(settings, TensorTable.of(Tied()), state, 3)
    assert not torch.equal(models[1][name], three_rounds(ServerSettings(optimizer="adam", lr=0.3))[0][1][name])


def test_sgd_with_a_whole_step_and_no_momentum_is_the_mean() -> None:
    models, means, state = three_rounds(ServerSettings(optimizer="sgd", momentum=0.0))
    for name, tensor in models[1].items():
        torch.testing.assert_close(tensor, means[0][name])
    assert state == {}
    check_state(ServerSettings(optimizer="sgd", momentum=0.0), TensorTable.of(Tied()), {}, 3)


@pytest.mark.parametrize("strategy", ["fedavg", "lotteryfl"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_its_state_survives_a_restart(name: str, strategy: str, tmp_path: Path, drive: Drive) -> None:
    """Also one between aggregation and commit, whose state must not count twice."""
    experiment = tiny_experiment(rounds=3, strategy={"name": strategy}, server={"optimizer": name, "lr": 0.5})
    bench = drive(experiment, TinyTask(Tied))
    while not bench.coordinator.is_final:
        bench.do_all(bench.register())
        bench.coordinator.advance()
        bench.conclude()
        bench.incarnation += 1
        bench.restart()
        bench.commit()
        files = bench.files("models")
        assert Path(optimizer_file(bench.run.model_round)).name in files
        assert len(files) == 3, "states of earlier rounds are deleted"
    bench.finish()
    with simulated(tmp_path / "whole", experiment, TinyTask(Tied)) as whole:
        assert (whole.database.get("model_sha256"), whole.tickets_sha256()) == bench.bits()[:2]
    plain = experiment.model_copy(update={"server": ServerSettings()})
    with simulated(tmp_path / "plain", plain, TinyTask(Tied)) as without:
        assert without.database.get("model_sha256") != bench.bits()[0]


def test_a_missing_yogi_is_named_before_anything_starts(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ExperimentError, match=r"server.optimizer = 'yogi': .*pip install 'lotteryfl\[yogi\]'"):
        drive(tiny_experiment(server={"optimizer": "yogi"}))


def _without(key: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.pop(key)


def _with(key: str, value: Tensor) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.update({key: value})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("head.bias/exp_avg"), "'head.bias/exp_avg': missing"),
        (_with("norm.running_mean/exp_avg", torch.ones(6)), "'norm.running_mean/exp_avg': unexpected"),
        (_with("head.bias/exp_avg", torch.ones(4)), r"head.bias/exp_avg: shape \[4\], expected \[3\]"),
        (_with("head.bias/exp_avg_sq", torch.tensor([0, torch.nan, 0])), "head.bias/exp_avg_sq: has values that are"),
        (_with("head.bias/step", torch.tensor(2.0)), "head.bias/step: 2.0, expected 3 steps"),
        (_with("head.bias/step", torch.ones(2)), r"head.bias/step: \[1.0, 1.0\], expected 3 steps"),
    ],
)
def test_a_spoilt_state_is_named(spoil: Callable[[Mapping[str, Tensor]], object], message: str) -> None:
    settings = ServerSettings(optimizer="adam")
    _, _, state = three_rounds(settings)
    check_state(settings, TensorTable.of(Tied()), state, 3)
    spoil(state)
    with pytest.raises(PayloadError, match=message):
        check_state(settings, TensorTable.of(Tied()), state, 3)
