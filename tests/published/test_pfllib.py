"""PFLlib's federated averaging, step by step.

Derived again from github.com/TsingZ0/PFLlib at d832e76f: system/flcore/trainmodel/models.py (FedAvgCNN),
system/flcore/clients/clientavg.py and clientbase.py (plain SGD over whole batches of 10), and
system/flcore/servers/serverbase.py (a mean by training examples). None of its text is here.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lotteryfl.common.models import create_model
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.training.loop import train
from tests.support.bench import tiny_experiment
from tests.support.playing import model, play, ticket

LR, BATCH = 0.005, 10


def network(channels: int, flat: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(channels, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(flat, 512), nn.ReLU(), nn.Linear(512, 10)),
    )


def steps(net: nn.Module, inputs: Tensor, labels: Tensor, order: Tensor) -> None:
    """Take plain steps by hand, on whole batches alone: what is over is left out."""
    for begin in range(0, len(order) - BATCH + 1, BATCH):
        batch = order[begin : begin + BATCH]
        outputs = net(inputs[batch])
        loss = (outputs.logsumexp(1) - outputs[torch.arange(BATCH), labels[batch]]).mean()
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter.sub_(LR * gradient)


@pytest.mark.parametrize(
    ("dataset", "channels", "size", "flat"), [("fashion-mnist", 1, 28, 1024), ("cifar10", 3, 32, 1600)]
)
def test_one_epoch_leaves_the_same_parameters(dataset: str, channels: int, size: int, flat: int) -> None:
    torch.manual_seed(0)
    theirs = network(channels, flat)
    torch.manual_seed(0)
    ours = create_model(dataset, "cnn-fedavg")
    data = torch.Generator().manual_seed(1)
    inputs, labels = torch.randn(27, channels, size, size, generator=data), torch.randint(10, (27,), generator=data)
    train(
        *(ours, TensorDataset(inputs, labels)),
        recipe={"epochs": 1, "lr": LR, "momentum": 0.0, "batch_size": BATCH, "drop_last": True},
        seed=7,
    )
    order = torch.randperm(27, generator=torch.Generator().manual_seed(derive_seed(7, "shuffle")))
    steps(theirs, inputs, labels, order)
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_the_shared_model_is_the_mean_by_training_examples(drive: Any) -> None:
    experiment = tiny_experiment(strategy={"name": "fedavg"}, clients=3, clients_per_round=3)
    bench = play(drive(experiment))
    examples = np.array([8, 9, 10])
    sent = [ticket(bench, client) for client in range(3)]
    for name, found in model(bench).items():
        expected = sum(float(share) * each[name] for share, each in zip(examples / examples.sum(), sent, strict=True))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
