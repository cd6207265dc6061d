"""Which models there are, by data set and architecture."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from torch import nn

from lotteryfl.common.models.cnn import cnn
from lotteryfl.common.models.fedavgcnn import FedAvgCNN
from lotteryfl.common.models.groupnorm import group_norm
from lotteryfl.common.models.lenet import LeNet5
from lotteryfl.common.models.mlp import image_mlp, mlp
from lotteryfl.common.models.resnet import BasicBlock, Bottleneck, ResNet
from lotteryfl.common.models.transformer import Transformer
from lotteryfl.common.models.vgg import VGG, VGG_STAGES
from lotteryfl.common.models.vit import ViT

Architectures = Mapping[str, Callable[..., nn.Module]]

IMAGES: dict[str, tuple[int, int, int]] = {
    "digits": (1, 8, 10),
    "mnist": (1, 28, 10),
    "fashion-mnist": (1, 28, 10),
    "emnist-balanced": (1, 28, 47),
    "emnist-letters": (1, 28, 26),
    "emnist-byclass": (1, 28, 62),
    "femnist": (1, 28, 62),
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "cinic10": (3, 32, 10),
    "svhn": (3, 32, 10),
    "tiny-imagenet": (3, 64, 200),
}
"""Name → (channels, height = width in pixels, classes); float32."""

FEATURES: dict[str, tuple[int, int]] = {"har": (561, 6), "tabular": (64, 10)}
"""Name → (features, classes); float32."""

SEQUENCES: dict[str, tuple[int, int, int]] = {"languages": (16, 32, 8), "ag-news": (8192, 64, 4)}
"""Name → (different symbols, length, classes); int64."""


class _Kind(NamedTuple):
    datasets: Mapping[str, tuple[int, ...]]
    architectures: Architectures


_RESNETS = {
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, BasicBlock, (3, 4, 6, 3)),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
}

_KINDS = (
    _Kind(
        IMAGES,
        {
            "mlp": partial(image_mlp, (200, 200)),
            "lenet-300-100": partial(image_mlp, (300, 100)),
            "lenet5": LeNet5,
            "cnn": cnn,
            "cnn-nodrop": partial(cnn, dropout=False),
            "cnn-fedavg": FedAvgCNN,
            **{name: partial(VGG, stages) for name, stages in VGG_STAGES.items()},
            **_RESNETS,
            **{f"{name}-gn": partial(build, norm=group_norm) for name, build in _RESNETS.items()},
            "vit": ViT,
        },
    ),
    _Kind(FEATURES, {"mlp": partial(mlp, (200, 200)), "lenet-300-100": partial(mlp, (300, 100))}),
    _Kind(SEQUENCES, {"transformer": Transformer}),
)

DATASETS: dict[str, tuple[int, ...]] = {**IMAGES, **FEATURES, **SEQUENCES}
"""Every data set that `create_model` knows, with the numbers that its architectures take."""


def architectures(dataset: str) -> Architectures:
    """Return the architectures that take this data set's inputs: name → constructor from the numbers in `DATASETS`.

    Raises:
        ValueError: the data set is unknown; the message lists the known ones.
    """
    for kind in _KINDS:
        if dataset in kind.datasets:
            return kind.architectures
    raise ValueError(f"dataset = {dataset!r}: expected one of {', '.join(DATASETS)}")


def create_model(dataset: str, architecture: str) -> nn.Module:
    """Build a freshly initialised model.

    The initial values come from torch's global generator alone: seed it with `torch.manual_seed` before.

    Args:
        dataset: one of `DATASETS`.
        architecture: for images and for features
            mlp: two hidden layers of 200, the 2NN of McMahan et al. 2017 (FedAvg), section 3.
            lenet-300-100: LeCun et al. 1998, with ReLU.

            For images
            lenet5: LeCun et al. 1998, with ReLU.
            cnn: the networks of LotteryFL (Li et al. 2020) for MNIST and for CIFAR-10, by channels.
            cnn-nodrop: the same without dropout, and with the same initial values.
            cnn-fedavg: the network of McMahan et al. 2017, section 3, as PFLlib has it.
            vgg11, vgg13, vgg16, vgg19: Simonyan and Zisserman 2015, with batch norm and one linear layer.
            resnet18, resnet34, resnet50: He et al. 2016, with the stem for small images.
            resnet18-gn, resnet34-gn, resnet50-gn: the same with group norm (Wu and He 2018).
            vit: ViT-Lite-6/4 of Hassani et al. 2021.

            For sequences
            transformer: two encoder layers of Vaswani et al. 2017, with the norm first.

    Returns:
        A module from images (batch, channels, size, size), features (batch, features) or sequences (batch, length)
        to logits (batch, classes).

    Raises:
        ValueError: a name is unknown, or the architecture does not take the data set's inputs; the message lists
            what is possible.
    """
    known = architectures(dataset)
    if architecture not in known:
        raise ValueError(f"architecture = {architecture!r}: expected one of {', '.join(known)} for {dataset}")
    return known[architecture](*DATASETS[dataset])
