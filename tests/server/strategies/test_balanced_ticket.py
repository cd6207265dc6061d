"""Balanced ticket: what its two mechanisms do, what a ticket holds in the end, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.training.score import Score
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.results.ticket import export_ticket
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment, tiny_mlp
from tests.support.playing import create, model, play, settings

Drive = Callable[..., Bench]
OPTIONS = {"first": 1.6, "pruned_by": 3}


class Skewed(TinyTask):
    """Three overlapping clouds, of which nine tenths of a client's examples are one: the client's number says which."""

    def client_data(self, client: int) -> ClientData:
        random = torch.Generator().manual_seed(client)
        return ClientData(*(self._drawn(random, size, client) for size in (60, 6, 300)))

    @staticmethod
    def everywhere() -> tuple[Tensor, Tensor]:
        parts = [Skewed._drawn(torch.Generator().manual_seed(9), 900, client).tensors for client in range(3)]
        inputs, labels = (torch.cat(each) for each in zip(*parts, strict=True))
        return inputs, labels

    @staticmethod
    def _drawn(random: torch.Generator, size: int, client: int) -> TensorDataset:
        labels = torch.where(torch.rand(size, generator=random) < 0.9, client, (client + 1) % 3)
        return TensorDataset(F.one_hot(labels, 6) + torch.randn(size, 6, generator=random), labels)


def accuracies(path: Path, prior: float) -> tuple[float, float]:
    """Return those of the shared model over all classes alike, and of what clients download, on average."""
    changes = settings("balanced-ticket", options={**OPTIONS, "prior": prior})
    recipe = {"epochs": 5, "batch_size": 10, "lr": 0.1}
    with simulated(path, tiny_experiment(**changes, rounds=4, training=recipe), Skewed()) as run:
        net = tiny_mlp()
        net.load_state_dict(open_file(run.model_path(4)))
        inputs, labels = Skewed.everywhere()
        shared = (net(inputs).argmax(dim=1) == labels).float()
        downloaded: float = summarise(run)["accuracy"]["downloaded_last"]
        return float(shared.mean()), downloaded


def test_clients_have_their_classes_and_the_shared_model_has_none(tmp_path: Path) -> None:
    shared, downloaded = accuracies(tmp_path / "balanced", 1.0)
    shared_without, downloaded_without = accuracies(tmp_path / "plain", 0.0)
    assert downloaded > downloaded_without + 0.05
    assert downloaded > shared + 0.1, "log π is in what a client downloads"
    assert shared > shared_without - 0.03


def test_the_mask_gets_smaller_until_it_is_at_its_target(drive: Drive) -> None:
    bench = drive(tiny_experiment(**settings("balanced-ticket", options=OPTIONS), rounds=5))
    densities = []
    for _ in range(5):
        play(bench)
        densities.append(round(bench.run.shared_mask.density * 108))
    assert densities == [round(0.8 * 108), round((0.5 + 0.3 / 8) * 108), 54, 54, 54]


def test_every_layer_keeps_a_weight(drive: Drive) -> None:
    """By magnitude alone the small second layer would lose all."""

    class Uneven(TinyTask):
        def model(self) -> nn.Module:
            net = super().model()
            with torch.no_grad():
                net[2].weight.mul_(1e-6)  # type: ignore[index]
            return net

    changes = settings("balanced-ticket", target_density=0.2, options={"first": 5, "pruned_by": 2})
    bench = play(drive(tiny_experiment(**changes, rounds=3, training={"lr": 1e-9}), Uneven()), 2)
    assert bench.run.shared_mask.density == pytest.approx(22 / 108)
    assert model(bench)["2.weight"].count_nonzero() > 0


def test_a_ticket_has_its_clients_classes_in_its_output_layer(tmp_path: Path, drive: Drive) -> None:
    """The last training is a step by all examples: the exported ticket is the model that was measured."""
    changes = settings("balanced-ticket", options=OPTIONS)
    bench = drive(tiny_experiment(**changes, rounds=3, training={"batch_size": 99, "lr": 0.1, "momentum": 0.0}))
    play(bench, 3)
    shared = {name: tensor.clone() for name, tensor in model(bench).items()}
    bench.finish()
    for client in range(3):
        inputs, labels = TinyTask().client_data(client).train.tensors  # type: ignore[attr-defined]
        shift = ((torch.bincount(labels, minlength=3) + 1) / (len(labels) + 3)).log()
        net = tiny_mlp()
        net.load_state_dict(shared)
        F.cross_entropy(net(inputs) + shift, labels).backward()
        export_ticket(bench.run, client, tmp_path / "ticket.safetensors")
        found = open_file(tmp_path / "ticket.safetensors")
        for name, parameter in net.named_parameters():
            step = parameter.detach() - 0.1 * parameter.grad  # type: ignore[operator]
            kept = shared[name] != 0 if name.endswith("weight") else torch.ones_like(step)
            torch.testing.assert_close(found[name], step * kept + (shift if name == "2.bias" else 0))


@pytest.mark.parametrize(
    ("strategy", "net", "refusal"),
    [
        ({"options": {"first": 0.5}}, tiny_mlp(), "strategy.options.first = 0.5: expected a finite number not below 1"),
        ({"options": {"prior": -1}}, tiny_mlp(), "strategy.options.prior = -1: expected a finite number not below 0"),
        ({"options": {"pruned_by": 1.5}}, tiny_mlp(), "strategy.options.pruned_by = 1.5: expected a whole number"),
        (
            {"options": {"tau": 1}},
            tiny_mlp(),
            "'balanced-ticket' has no such option, expected first or pruned_by or pr",
        ),
        ({"prunable": "every-parameter"}, tiny_mlp(), "the output layer's bias is not pruned: expected 'matrices'"),
        ({}, nn.Sequential(nn.Linear(6, 3, bias=False)), "is kept in the output layer's bias: expected a model that"),
    ],
)
def test_what_cannot_be_is_refused(strategy: dict[str, Any], net: nn.Module, refusal: str) -> None:
    with pytest.raises(ExperimentError) as refused:
        create("balanced-ticket", **strategy).check(TensorTable.of(net))
    assert refusal in str(refused.value)


def test_only_classes_can_be_balanced() -> None:
    strategy = create("balanced-ticket")
    strategy.score = Score.of("mae", higher_is_better=False)
    with pytest.raises(ExperimentError, match=r"objective of its own, judged by 'mae': expected classification"):
        strategy.check(TensorTable.of(tiny_mlp()))
