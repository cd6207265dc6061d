"""FLASC's half on the client (Kuo et al. 2024, "Federated LoRA with Sparse Communication", Algorithm 1): all is trained
of what has come sparse, and the largest changes go up."""

import torch
from torch import nn

from lotteryfl.client.local.algorithm import LocalAlgorithm
from lotteryfl.common.pruning.among import largest_among


class FLASC(LocalAlgorithm):
    """Leaves by how much parameters have changed in the model's place, but after the last round."""

    name = "flasc"

    def begin(self) -> None:
        """Remember what has come."""
        parameters = self.work.named_parameters().items()
        self._start = {name: parameter.clone() for name, parameter in parameters if parameter.requires_grad}

    def end(self) -> None:
        """Put changes in the parameters' place, and keep the largest."""
        share = self.work.options["keeps"]
        self._trained = self.work.model
        if share is None:
            return
        self._trained = self.work.copy()
        parameters = self.work.named_parameters()
        for name, start in self._start.items():
            parameters[name].sub_(start)
        prunable = self.work.prunable()
        changes = list(prunable.values())
        total = sum(change.numel() for change in changes)
        if (count := int(share * total)) < total:
            anywhere = [torch.ones_like(change, dtype=torch.bool) for change in changes]
            self.work.keep(dict(zip(prunable, largest_among(changes, anywhere, count), strict=True)))

    def personalised(self) -> nn.Module:
        """Return the trained model, of which all is the client's."""
        return self._trained
