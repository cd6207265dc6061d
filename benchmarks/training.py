"""One training step of a pruned model against the dense one, and against torch's way, a hook before each forward."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from benchmarks.harness import Row, at_most, interleaved, seconds, share
from common.models import create_model
from common.models.mlp import mlp
from common.parameters import copy_model
from common.pruning import prune_fixed_amount
from common.training import train

MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, float]] = {
    "CNN for MNIST": (partial(create_model, "mnist", "cnn"), (32, 1, 28, 28), 30, 1.05),
    "CNN for CIFAR-10": (partial(create_model, "cifar10", "cnn"), (32, 3, 32, 32), 30, 1.05),
    "ResNet-18": (partial(create_model, "cifar10", "resnet18"), (8, 3, 32, 32), 4, 1.05),
    "MLP of 1.9 M": (partial(mlp, (1024, 1024), 1, 28, 10), (32, 1, 28, 28), 30, 1.15),
}
"""Name → (model, shape of a batch, steps, most that a pruned step may cost in dense ones)."""


def rows() -> list[Row]:
    """Every model, pruned to a fifth."""
    torch.set_num_threads(1)
    return [row for name in MODELS for row in _rows(name)]


def _rows(name: str) -> list[Row]:
    build, batch, steps, most = MODELS[name]
    torch.manual_seed(0)
    dense = build()
    pruned = copy_model(dense)
    prune_fixed_amount(pruned, 0.8, verbose=False)
    data = (torch.randn(steps * batch[0], *batch[1:]), torch.randint(10, (steps * batch[0],)))
    times = interleaved(
        9,
        ours=seconds(partial(train, pruned, data, epochs=1, lr=1e-4, batch_size=batch[0])),
        hooks=seconds(partial(_train_with_hooks, pruned, data, batch[0])),
        dense=seconds(partial(train, dense, data, epochs=1, lr=1e-4, batch_size=batch[0])),
    )
    label = f"training {name}, batches of {batch[0]}"
    return [
        share(f"{label}: pruned", times["ours"], times["dense"], "dense", "s", at_most(most)),
        share(f"{label}: pruned, torch's hooks", times["hooks"], times["dense"], "dense", "s"),
    ]


def _train_with_hooks(model: nn.Module, data: tuple[Tensor, Tensor], batch_size: int) -> None:
    """Train a model as `torch.nn.utils.prune` leaves it: every forward multiplies the weights by their masks."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    order = torch.randperm(len(data[0]))
    for batch in torch.split(order, batch_size):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data[0][batch]), data[1][batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
