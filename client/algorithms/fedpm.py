"""FedPM's half on the client (Isik et al. 2023, "Sparse Random Networks for Communication-Efficient Federated
Learning", Algorithm 1): scores are trained under masks that are drawn anew in every step."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lotteryfl.client.local.algorithm import LocalAlgorithm, LossOf, Model, Phase

_LEAST = 0.01
"""Probabilities are so far from 0 and 1 at least when training begins, as in the paper's code: their scores are finite,
and no weight is lost for good."""


class FedPM(LocalAlgorithm):
    """Trains scores s in the place of the probabilities σ(s)."""

    name = "fedpm"

    def begin(self) -> None:
        """Put the scores in the probabilities' place."""
        for tensor in self.work.like("probability").values():
            tensor.copy_(tensor.clamp(_LEAST, 1 - _LEAST).logit())

    def phases(self) -> tuple[Phase]:
        """Train scores alone."""
        return (Phase(trains=(), tensors=("probability:*",)),)

    def loss(self, model: Model, batch: Any, loss_of: LossOf) -> Tensor:
        """Compute under a mask m ~ Bern(σ(s)), whose gradient is taken for that of σ(s)."""
        del model
        weights = {}
        parameters = self.work.named_parameters()
        for name, scores in self.work.like("probability").items():
            probability = scores.sigmoid()
            mask = self._drawn(probability) + (probability - probability.detach())
            weights[name] = parameters[name] * mask.to(parameters[name].dtype)
        return loss_of(self.work.computing_with(weights), batch)

    def end(self) -> None:
        """Draw the mask that goes up."""
        masks = self.work.like("mask")
        for name, scores in self.work.like("probability").items():
            masks[name].copy_(self._drawn(scores.sigmoid()))

    def downloaded(self) -> nn.Module:
        """Return θ_0 under a mask that is drawn by the probabilities."""
        return self._masked({name: self._drawn(each) for name, each in self.work.like("probability").items()})

    def personalised(self) -> nn.Module:
        """Return θ_0 under the mask that goes up."""
        return self._masked(self.work.like("mask"))

    def _drawn(self, probabilities: Tensor) -> Tensor:
        """Return 1 with the probabilities, else 0; drawn on the CPU, so that a seed is the same mask everywhere."""
        drawn = torch.rand(probabilities.shape, generator=self.work.generator).to(probabilities.device)
        return (drawn < probabilities.detach()).to(probabilities.dtype)

    def _masked(self, masks: Mapping[str, Tensor]) -> nn.Module:
        model = self.work.copy()
        for name, parameter in model.named_parameters():
            if name in masks:
                parameter.mul_(masks[name])
        return model
