"""One training step of a pruned model against the dense one, and against torch's way, a hook before each forward."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from benchmarks.harness import Row, at_most, interleaved, seconds, share
from benchmarks.inputs import MODELS
from lotteryfl.common.models import create_model
from lotteryfl.common.pruning.parameters import copy_model
from lotteryfl.common.pruning.prune import prune_fixed_amount
from lotteryfl.common.training.loop import train


@dataclass(frozen=True)
class Case:
    """What is trained, and how often."""

    build: Callable[[], nn.Module]
    batch: tuple[int, ...]
    steps: int
    repeats: int
    most: float
    """That a pruned step may cost, in dense ones."""


FULL = {
    "CNN for MNIST": Case(partial(create_model, "mnist", "cnn"), (32, 1, 28, 28), 30, 15, most=1.05),
    "CNN for CIFAR-10": Case(partial(create_model, "cifar10", "cnn"), (32, 3, 32, 32), 30, 15, most=1.05),
    "ResNet-18": Case(partial(create_model, "cifar10", "resnet18"), (8, 3, 32, 32), 4, 7, most=1.05),
    "MLP of 1.9 M": Case(MODELS["1.9 M"], (32, 1, 28, 28), 30, 15, most=1.15),
}
QUICK = {name: replace(case, steps=1, repeats=1) for name, case in FULL.items()}


def rows(cases: Mapping[str, Case]) -> list[Row]:
    """Every model, pruned to a fifth."""
    torch.set_num_threads(1)
    return [row for name, case in cases.items() for row in _rows(name, case)]


def _rows(name: str, case: Case) -> list[Row]:
    torch.manual_seed(0)
    dense, size = case.build(), case.batch[0]
    pruned = copy_model(dense)
    prune_fixed_amount(pruned, 0.8, verbose=False)
    data = (torch.randn(case.steps * size, *case.batch[1:]), torch.randint(10, (case.steps * size,)))
    times = interleaved(
        case.repeats,
        ours=seconds(partial(train, pruned, data, epochs=1, lr=1e-4, batch_size=size)),
        hooks=seconds(partial(_train_with_hooks, pruned, data, size)),
        dense=seconds(partial(train, dense, data, epochs=1, lr=1e-4, batch_size=size)),
    )
    label = f"training {name}, batches of {size}"
    return [
        share(f"{label}: pruned", times["ours"], times["dense"], "dense", "s", at_most(case.most)),
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
