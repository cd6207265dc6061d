"""Methods against their papers' algorithms in plain torch: what was played over gRPC, and plain gradient descent."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lotteryfl.common.randomness import model_seed
from lotteryfl.server.store.rundir import RunDirectory
from tests.support import normed_task
from tests.support.bench import TinyTask

SEED, STEPS, LR = 3, 3, 0.1
TASK = Path(normed_task.__file__)

Model = dict[str, Tensor]


class Played(NamedTuple):
    """A run after its second round: its shared models, and what every client has sent last."""

    run: RunDirectory
    models: list[Model]
    sent: dict[int, Model]


def copied(tensors: Mapping[str, Tensor]) -> Model:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def data(run: RunDirectory, client: int) -> tuple[Tensor, Tensor]:
    inputs, labels = normed_task.client(client, run.experiment)[0]
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def fresh(build: Callable[[], nn.Module] = normed_task.model) -> nn.Module:
    torch.manual_seed(model_seed(SEED))
    return build()


def gradients(net: nn.Module, inputs: Tensor, labels: Tensor) -> Model:
    """Return those of all parameters; batch norms see the batch."""
    net.train()
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(F.cross_entropy(net(inputs), labels), parameters), strict=True))


def train(net: nn.Module, inputs: Tensor, labels: Tensor, masks: Mapping[str, Tensor] | None = None) -> Model:
    """Take the steps of plain gradient descent, under masks where there are some."""
    for _ in range(STEPS):
        found = gradients(net, inputs, labels)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter.sub_(LR * found[name])
                if masks and name in masks:
                    parameter.mul_(masks[name])
    return copied(net.state_dict())


def mean(models: Sequence[Model], weights: Sequence[float]) -> Model:
    total = sum(weights)
    return {
        name: sum((w / total * m[name].double() for w, m in zip(weights, models, strict=True)), torch.zeros(()))
        for name in models[0]
    }


def assert_close(found: Model, expected: Model, *, leaving_out: Sequence[str] = ()) -> None:
    assert found.keys() == expected.keys()
    for name in found.keys() - set(leaving_out):
        torch.testing.assert_close(found[name].double(), expected[name].double(), rtol=1e-4, atol=1e-6, msg=name)


def tensors_of(task: TinyTask, client: int) -> tuple[Tensor, Tensor]:
    """Return a client's training examples: inputs and labels."""
    data = task.client_data(client).train
    assert isinstance(data, TensorDataset)
    inputs, labels = data.tensors
    return inputs, labels
