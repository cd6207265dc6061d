"""SparsyFed, both halves (Guastella et al. 2025, "SparsyFed: Sparse Adaptive Federated Training", section 3).

Clients train φ in the place of the weights w = φ|φ|^(β - 1) (Schwarz et al. 2021, "Powerprop", equation 1): gradients
of small weights are small, so what is pruned tends to stay so. After training each keeps its largest weights,
by one threshold; the server's mean counts the others as zeros.

Differs from the paper: activations are not pruned in the backward pass, and what goes down is whole where more than
the target density of the mean is not 0. A tensor that is all 0 in θ_0 is trained as it is: a power of 0 never trains.

    lotteryfl run examples/digits.toml --strategy examples/sparsyfed.py --set strategy.name=sparsyfed-example
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lotteryfl import ClientState, LocalAlgorithm, Strategy
from lotteryfl.protos import lotteryfl_pb2 as pb


class SparsyFed(Strategy):
    """A fresh mask after every training; `strategy.options.beta` is β."""

    name = "sparsyfed-example"
    local = "sparsyfed-example"
    prunes = True
    starts_under = "no mask"
    counts_zeros = True

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train φ, then prune to the target density in one step."""
        del round_, client
        density = self.experiment.strategy.target_density
        prune = pb.Plan.Prune(rate=1 - density, target_density=density, after_training=True)
        beta = float(self.experiment.strategy.options.get("beta", 1.25))
        return pb.Plan(train=self.local_training(), prune=prune, local=self.local_plan({"beta": beta}))


class Powerprop(LocalAlgorithm):
    """Trains φ."""

    name = "sparsyfed-example"

    def begin(self) -> None:
        """Put φ in the weights' place."""
        self.beta = self.work.options["beta"]
        found = self.work.prunable().items()
        self.powers = {name: weight for name, weight in found if self.work.initial[name].any()}
        self._power(1 / self.beta)

    def loss(self, model: Callable[..., Any], batch: Any, loss_of: Callable[[Any, Any], Tensor]) -> Tensor:
        """Compute with w."""
        del model
        weights = {name: powered(phi, self.beta) for name, phi in self.powers.items()}
        return loss_of(self.work.computing_with(weights), batch)

    def end(self) -> None:
        """Put the weights back."""
        self._power(self.beta)

    def _power(self, exponent: float) -> None:
        """Take the weights to a power, sign kept."""
        for weight in self.powers.values():
            weight.copy_(powered(weight, exponent))


def powered(values: Tensor, exponent: float) -> Tensor:
    """Return sign(x)|x|^exponent, of which 0 has the gradient 0."""
    return values.sign() * values.abs().clamp_min(torch.finfo(values.dtype).tiny).pow(exponent) * (values != 0)
