"""A task of random images, 32×32 in three colours, for ResNet-18 or a small network; no file is read."""

import torch
from torch import Tensor, nn

from lotteryfl import Experiment, create_model
from lotteryfl.common.randomness import derive_seed

Part = tuple[Tensor, Tensor]


def model(experiment: Experiment) -> nn.Module:
    """Return what `task.options.architecture` names, one of `create_model`'s for CIFAR-10."""
    return create_model("cifar10", str(experiment.task.options["architecture"]))


def client(k: int, experiment: Experiment) -> tuple[Part, Part, Part]:
    """Return `task.options.examples` examples to train on, and a fifth as many to validate and test."""
    examples = int(experiment.task.options["examples"])
    generator = torch.Generator().manual_seed(derive_seed(experiment.seed, "images", k))
    return _drawn(examples, generator), _drawn(examples // 5, generator), _drawn(examples // 5, generator)


def _drawn(count: int, generator: torch.Generator) -> Part:
    images = torch.randn(count, 3, 32, 32, generator=generator)
    return images, torch.randint(10, (count,), generator=generator)
