"""Balanced ticket, the client's half: the balanced softmax (Ren et al. 2020, equation 3) by its own classes."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lotteryfl.client.local.algorithm import LocalAlgorithm, LossOf, Model
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.wire.layers import output_bias


class BalancedTicket(LocalAlgorithm):
    """Trains logits with the client's log π added, which the model that goes up does without."""

    name = "balanced-ticket"

    def downloaded(self) -> nn.Module:
        """Measure what came down by the classes that the client has."""
        return self._with_prior()

    def loss(self, model: Model, batch: Any, loss_of: LossOf) -> Tensor:
        """Return the loss of the shifted logits."""
        return loss_of(lambda *inputs: model(*inputs) + self._log_prior, batch)

    def end(self) -> None:
        """Keep log π with the last ticket, which nobody else gets."""
        if self.work.options["keeps"]:
            self._bias(self.work.model).add_(self._log_prior)

    def personalised(self) -> nn.Module:
        """Measure as what came down."""
        return self.work.model if self.work.options["keeps"] else self._with_prior()

    def _with_prior(self) -> nn.Module:
        model = self.work.copy()
        self._bias(model).add_(self._log_prior)
        return model

    def _bias(self, model: nn.Module) -> Tensor:
        return named_tensors(model)[output_bias(self.work.table)]

    @cached_property
    def _log_prior(self) -> Tensor:
        """prior · log π, of shape (classes,), π as if there were one example more of each class.

        The gradient of the mean cross-entropy of logits that are all 0, by the logits, is 1 / classes - π: labels need
        not be looked for in data whose form is the task's own affair.
        """
        classes, examples = self._bias(self.work.model).numel(), self.work.examples
        if not examples:
            raise ValueError("the training data are a stream: expected data whose length is known, to count classes")
        gradient = self.work.gradients(_Undecided(classes).to(self.work.device))["logits"]
        counts = (examples * (1 / classes - gradient)).clamp(min=0)
        shift: Tensor = self.work.options["prior"] * ((counts + 1) / (examples + classes)).log()
        return shift


class _Undecided(nn.Module):
    """Has the same logits for every input."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        return self.logits.expand(len(inputs), -1)
