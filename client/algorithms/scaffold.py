"""SCAFFOLD, the client's half: every gradient is corrected, and the variates are renewed after the steps."""

import torch
from torch import Tensor, nn

from lotteryfl.client.local.algorithm import LocalAlgorithm


class Scaffold(LocalAlgorithm):
    """Adds c - c_k to the gradients; c_k becomes their mean, as they were without it."""

    name = "scaffold"

    def begin(self) -> None:
        """Find what the gradients are corrected by."""
        parameters, shared, own = self.work.named_parameters(), self.work.like("c"), self.work.like("c_k")
        self._parameters = [parameters[name] for name in shared]  # others are frozen
        self._shared = list(shared.values())
        self._own = [own[name] for name in shared]
        self._correction = torch._foreach_sub(self._shared, self._own)
        self._sums = [torch.zeros_like(own) for own in self._own]
        self._steps = 0

    def before_step(self, step: int) -> None:
        """Add the gradients up, then correct them; of what no example went through, they are 0."""
        self._steps = step
        gradients = [_gradient(parameter) for parameter in self._parameters]
        torch._foreach_add_(self._sums, gradients)
        torch._foreach_add_(gradients, self._correction)

    def end(self) -> None:
        """Renew c_k, and let c go back moved by as much."""
        torch._foreach_div_(self._sums, self._steps)
        torch._foreach_add_(self._shared, torch._foreach_sub(self._sums, self._own))
        torch._foreach_copy_(self._own, self._sums)


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Return a parameter's gradient, to be changed in place."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
