"""The models of the experiments, by data set and architecture; all are made for small images."""

from collections.abc import Callable
from functools import partial

from torch import nn

from common.models.cnn import cnn
from common.models.lenet import LeNet5
from common.models.mlp import mlp
from common.models.resnet import BasicBlock, Bottleneck, ResNet
from common.models.vgg import VGG, VGG_STAGES

DATASETS: dict[str, tuple[int, int, int]] = {
    "digits": (1, 8, 10),
    "mnist": (1, 28, 10),
    "fashion-mnist": (1, 28, 10),
    "cifar10": (3, 32, 10),
}
"""Name → (channels, height = width in pixels, classes)."""

ARCHITECTURES: dict[str, Callable[[int, int, int], nn.Module]] = {
    "mlp": partial(mlp, (200, 200)),
    "lenet-300-100": partial(mlp, (300, 100)),
    "lenet5": LeNet5,
    "cnn": cnn,
    **{name: partial(VGG, stages) for name, stages in VGG_STAGES.items()},
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, BasicBlock, (3, 4, 6, 3)),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
}
"""Name → constructor from (channels, size, classes)."""


def create_model(dataset: str, architecture: str) -> nn.Module:
    """Build a freshly initialised model; every architecture fits every data set's images.

    The initial values come from torch's global generator alone: seed it with `torch.manual_seed` before.

    Args:
        dataset: digits, mnist, fashion-mnist or cifar10.
        architecture:
            mlp: two hidden layers of 200, the 2NN of McMahan et al. 2017 (FedAvg), section 3.
            lenet-300-100, lenet5: LeCun et al. 1998, with ReLU.
            cnn: the networks of LotteryFL (Li et al. 2020) for MNIST and for CIFAR-10, by channels.
            vgg11, vgg13, vgg16, vgg19: Simonyan and Zisserman 2015, with batch norm and one linear layer.
            resnet18, resnet34, resnet50: He et al. 2016, with the stem for small images.

    Returns:
        A module from float32 images (batch, channels, size, size) to logits (batch, classes).

    Raises:
        ValueError: a name is unknown; the message lists the known ones.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset = {dataset!r}: expected one of {', '.join(DATASETS)}")
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture = {architecture!r}: expected one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architecture](*DATASETS[dataset])
