"""SparsyFed, the client's half (Guastella et al. 2025, section 3): weights as powers (Schwarz et al. 2021,
"Powerpropagation: A Sparsity Inducing Weight Reparameterisation"), and backward passes with pruned activations."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lotteryfl.client.local.algorithm import LocalAlgorithm, LossOf, Model

_LAYERS = (F.linear, F.conv1d, F.conv2d, F.conv3d)


class SparsyFed(LocalAlgorithm):
    """Trains φ in the weights' place, but of those tensors that are all 0 in θ_0."""

    name = "sparsyfed"

    def begin(self) -> None:
        """Put φ there."""
        self._beta = self.work.options["beta"]
        self._powers = {
            name: weight
            for name, weight in self.work.prunable().items()
            if self.work.initial[name].any()  # a power of 0 has no gradient: what begins as 0 would never train
        }
        self._power(1 / self._beta)

    def loss(self, model: Model, batch: Any, loss_of: LossOf) -> Tensor:
        """Compute with w, and backwards with inputs as sparse as it."""
        del model
        weights = {name: powered(phi, self._beta) for name, phi in self._powers.items()}
        with SparseBackward(weights.values()) if self.work.options["prune_activations"] else nullcontext():
            return loss_of(self.work.computing_with(weights), batch)

    def end(self) -> None:
        """Put the weights back."""
        self._power(self._beta)

    def _power(self, exponent: float) -> None:
        for weight in self._powers.values():
            weight.copy_(powered(weight, exponent))


class SparseBackward(TorchFunctionMode):
    """Lets the gradients of layers' weights be computed from the largest of each layer's inputs, as dense as they are.

    Forward passes are as they were, and so are the gradients of inputs and biases.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        """Take note of the layers' weights: those that layers are called with."""
        super().__init__()
        self._weights = {id(weight): weight for weight in weights}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute a layer in two parts: one whose value counts, and one whose weight's gradient does."""
        del types
        kwargs = kwargs or {}
        if func not in _LAYERS or len(args) < 2 or id(args[1]) not in self._weights:
            return func(*args, **kwargs)
        inputs, weight, *rest = args
        density = int(weight.count_nonzero()) / weight.numel()
        outputs = func(inputs, weight.detach(), *rest, **kwargs)
        without_bias = {key: value for key, value in kwargs.items() if key != "bias"}
        counts = func(largest(inputs.detach(), density), weight, *([None] if rest else []), *rest[1:], **without_bias)
        return outputs + (counts - counts.detach())


def largest(values: Tensor, share: float) -> Tensor:
    """Return a tensor in which but a share of the values, the largest magnitudes, are 0; of equals all stay."""
    magnitudes = values.abs()
    count = max(1, round(share * values.numel()))
    return values * (magnitudes >= magnitudes.flatten().topk(count).values[-1])


def powered(values: Tensor, exponent: float) -> Tensor:
    """Return sign(x)|x|^exponent, of which 0 has the gradient 0 unless the exponent is 1."""
    if exponent == 1:
        return values
    return values.sign() * values.abs().clamp_min(torch.finfo(values.dtype).tiny).pow(exponent) * (values != 0)
