"""Small models of every kind that pruning has to get right, each with an input that fits it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

CLASSES = 4


class ResidualBlock(nn.Module):
    """A container that is not `nn.Sequential`, with weights one level further down (trap P1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(maps + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(maps))))))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3)
        self.blocks = nn.ModuleList([ResidualBlock(3), ResidualBlock(3)])
        self.head = nn.Linear(3, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.stem(images))
        for block in self.blocks:
            maps = block(maps)
        output: Tensor = self.head(maps.mean((2, 3)))
        return output


class Tree(nn.Module):
    """Holds a weight itself, and children of its own type (trap P2)."""

    def __init__(self, depth: int, width: int = CLASSES) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width) / 2)
        self.left = Tree(depth - 1, width) if depth else None
        self.right = Tree(depth - 1, width) if depth else None

    def forward(self, values: Tensor) -> Tensor:
        here = torch.tanh(values @ self.weight)
        if self.left is None or self.right is None:
            return here
        output: Tensor = self.left(here) + self.right(here)
        return output


class Tied(nn.Module):
    """Two layers with one weight; the decoder also reads the encoder's weight without calling it (P3)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(CLASSES, CLASSES)
        self.twin = nn.Linear(CLASSES, CLASSES, bias=False)
        self.twin.weight = self.encoder.weight

    def forward(self, values: Tensor) -> Tensor:
        hidden = self.twin(torch.tanh(self.encoder(values)))
        return F.linear(hidden, self.encoder.weight.t())


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.RNNBase]) -> None:
        super().__init__()
        self.rnn = kind(3, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(10, CLASSES)

    def forward(self, sequence: Tensor) -> Tensor:
        output: Tensor = self.head(self.rnn(sequence)[0].mean(1))
        return output


class Attention(nn.Module):
    """`nn.MultiheadAttention` reads its child's `out_proj.weight` without calling the child."""

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, **options)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, sequence: Tensor) -> Tensor:
        output: Tensor = self.head(self.attention(sequence, sequence, sequence, need_weights=False)[0].mean(1))
        return output


class Transformer(nn.Module):
    """A small encoder classifier; in eval mode `nn.TransformerEncoderLayer` has a fast path of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        first, second = (nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True) for _ in "12")
        self.encoder = nn.TransformerEncoder(first, 2)
        self.encoder.layers[1] = second  # torch makes the second layer a copy of the first: ties everywhere
        self.head = nn.Linear(8, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.head(self.encoder(self.embedding(tokens)).mean(1))
        return output


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, CLASSES))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 9), nn.Linear(9, CLASSES)
    )


def batch_normed() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, CLASSES))


def _vectors(width: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(7, width)


def _images() -> Tensor:
    return torch.randn(7, 1, 8, 8)


def _sequences(width: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(7, 5, width)


def _tokens() -> Tensor:
    return torch.randint(0, 11, (7, 5))


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "mlp": (mlp, _vectors(6)),
    "lenet": (lenet, _images),
    "residual": (Residual, _images),
    "tree": (lambda: Tree(2), _vectors(CLASSES)),
    "tied": (Tied, _vectors(CLASSES)),
    "batch norm": (batch_normed, _vectors(6)),
    "lstm": (lambda: Recurrent(nn.LSTM), _sequences(3)),
    "gru": (lambda: Recurrent(nn.GRU), _sequences(3)),
    "attention": (Attention, _sequences(6)),
    "attention with kdim": (lambda: Attention(kdim=6, vdim=6), _sequences(6)),
    "transformer": (Transformer, _tokens),
}


def build(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Return a freshly initialised model and a batch of 7 inputs for it."""
    torch.manual_seed(seed)
    model, inputs = ARCHITECTURES[name]
    return model(), inputs()
