"""Which channels of a model stand or fall together, who computes with them, and which are the same for all inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """A layer that computes with channels."""

    weight: str
    """The name of its weight, whose columns are of them."""
    bias: str
    """Of its bias; '': it has none."""
    constant: Tensor
    """bool (channels,): which are the same for all inputs."""
    values: Tensor
    """What these are then."""
    pads: bool
    """It sees zeros in their place at borders."""
    into: "Channels"
    """What its rows are."""

    def can_do_without(self, weight: Tensor) -> Tensor:
        """Return, for each channel, whether the layer's rows that are left give the same without it.

        Args:
            weight: the layer's.
        """
        in_bias = torch.full_like(self.constant, bool(self.bias) and not self.pads)
        unread = (columns(weight, len(self.constant))[self.into.root().kept] == 0).all(dim=2).all(dim=0)
        return unread | (self.constant & ((self.values == 0) | in_bias))


@dataclass
class Channels:
    """Channels of values between layers; those of values that are added to one another are the same ones."""

    kept: Tensor
    """bool (channels,): which are left."""
    rows: list[str] = field(default_factory=list)
    """Names of the tensors that have a row for each."""
    readings: list[Reading] = field(default_factory=list)
    fixed: bool = False
    """All have to stay."""
    _same: "Channels | None" = None

    def root(self) -> "Channels":
        """Return those that stand for all that are the same."""
        return self if self._same is None else self._same.root()

    def join(self, other: "Channels") -> "Channels":
        """Make both the same; return what stands for them."""
        mine, other = self.root(), other.root()
        if mine is not other:
            mine.rows += other.rows
            mine.readings += other.readings
            mine.fixed |= other.fixed
            other._same = mine
        return mine

    def drop(self, weights: Mapping[str, Tensor]) -> bool:
        """Drop the channels that every reader can do without, but the last; tell whether there were any."""
        if self.fixed or not self.readings:
            return False
        needed = torch.zeros_like(self.kept)
        for reading in self.readings:
            needed |= ~reading.can_do_without(weights[reading.weight])
        left = self.kept & needed
        if not left.any():
            left[int(self.kept.nonzero()[0])] = True  # a layer has a row at least
        found = not left.equal(self.kept)
        self.kept = left
        return found


@dataclass(frozen=True)
class Flow:
    """A value on its way through the model, by channels."""

    channels: Channels
    axis: int
    """Which of the value's dimensions they are."""
    width: int
    """How many in a row along it are of one channel."""
    constant: Tensor
    """bool (channels,)."""
    layer: str
    """That it comes from."""

    def of(self, value: Tensor) -> Tensor:
        """Return what each channel holds of a value of this form, (channels, numbers)."""
        return value.movedim(self.axis, 0).reshape(len(self.constant), -1)

    def same_in(self, value: Tensor) -> Tensor:
        """Return which of the constant channels hold one number only, as one that meets a border may not."""
        held = self.of(value).double()
        least, most = held.aminmax(dim=1)
        return self.constant & torch.isclose(least, most, rtol=1e-6, atol=1e-9)


def columns(weight: Tensor, channels: int) -> Tensor:
    """Return a weight as (rows, channels, numbers of each)."""
    return weight.reshape(weight.shape[0], channels, -1)


def roots(all_: list[Channels]) -> list[Channels]:
    """Return those that stand for themselves and the same."""
    return [each for each in all_ if each.root() is each]
