"""SpaFL's half on the client (Kim et al. 2024, "SpaFL: Communication-Efficient Federated Learning with Sparse Models
and Low Computational Overhead", Algorithm 1): weights are trained with the thresholds that prune their rows."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lotteryfl.client.local.algorithm import LocalAlgorithm, LossOf, Model, Phase


class SpaFL(LocalAlgorithm):
    """Weights stay whole; it is with their unpruned rows alone that anything is computed."""

    name = "spafl"

    def begin(self) -> None:
        """Let weights follow what all clients' thresholds have done since this one heard of them."""
        self._follow(self.work.named_parameters())
        for name, heard in self.work.like("heard").items():
            heard.copy_(self._thresholds[name])

    def phases(self) -> tuple[Phase]:
        """Train both."""
        return (Phase(tensors=("threshold:*",)),)

    def loss(self, model: Model, batch: Any, loss_of: LossOf) -> Tensor:
        """Compute with the rows above their thresholds; the step's gradient is taken for 1."""
        del model
        parameters, weights, penalty = self.work.named_parameters(), {}, torch.zeros((), device=self.work.device)
        for name, thresholds in self._thresholds.items():
            weight = parameters[name]
            above = magnitudes(weight.detach()) - thresholds
            is_kept = (above > 0) + (above - above.detach())
            weights[name] = weight * by_row(is_kept, weight).to(weight.dtype)
            penalty = penalty + torch.exp(-thresholds).sum()
        loss = loss_of(self.work.computing_with(weights), batch)
        return loss.add(penalty, alpha=self.work.options["sparsity"])

    def end(self) -> None:
        """Prune for good, after the last round."""
        if self.work.options["final"]:
            self._prune(self.work.named_parameters())

    def downloaded(self) -> nn.Module:
        """Return the client's model, pruned by the thresholds as all have them now."""
        model = self.work.copy()
        parameters = dict(model.named_parameters())
        self._follow(parameters)
        self._prune(parameters)
        return model

    def personalised(self) -> nn.Module:
        """Return the trained model, pruned by the thresholds that were trained with it."""
        model = self.work.copy()
        self._prune(dict(model.named_parameters()))
        return model

    @property
    def _thresholds(self) -> dict[str, Tensor]:
        return self.work.like("threshold")

    def _follow(self, parameters: Mapping[str, Tensor]) -> None:
        """Move every row away from 0 where its threshold has fallen, and towards 0 where it has risen."""
        for name, heard in self.work.like("heard").items():
            weight = parameters[name]
            change = (self._thresholds[name] - heard) * rows(weight).sum(dim=1).sign() / rows(weight).shape[1]
            weight -= by_row(change, weight)

    def _prune(self, parameters: Mapping[str, Tensor]) -> None:
        for name, thresholds in self._thresholds.items():
            weight = parameters[name]
            weight.masked_fill_(by_row(magnitudes(weight) <= thresholds, weight), 0)


def rows(weight: Tensor) -> Tensor:
    """Return a weight as a matrix, a row for each unit or filter."""
    return weight.reshape(weight.shape[0], -1)


def magnitudes(weight: Tensor) -> Tensor:
    """Return the mean magnitude of each row."""
    return rows(weight).abs().mean(dim=1)


def by_row(values: Tensor, weight: Tensor) -> Tensor:
    """Return one value for each row, in the form that a weight can be multiplied by."""
    return values.view(-1, *[1] * (weight.dim() - 1))
