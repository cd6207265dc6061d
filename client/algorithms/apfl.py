"""APFL, the client's half: the shared model and one of the client's own train together, the own one in a mixture."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from lotteryfl.client.local.algorithm import LocalAlgorithm, LossOf, Model, Phase
from lotteryfl.common.pruning.parameters import named_tensors


class APFL(LocalAlgorithm):
    """Trains w by f(w), and v by f(α v + (1 - α) w), in which w stands still."""

    name = "apfl"

    def begin(self) -> None:
        """Take v up where it was, or as downloaded."""
        work, parameters = self.work, self.work.named_parameters()
        self._pairs = {name: (parameters[name], own) for name, own in work.like("personal").items()}
        if not work.tensors["begun"]:
            for shared, tensor in self._pairs.values():
                tensor.copy_(shared)
            work.tensors["begun"].fill_(True)
        self._buffers = {name: buffer.clone() for name, buffer in work.model.named_buffers()}
        self._alpha = work.tensors["alpha"].clone().requires_grad_(bool(work.options["adaptive"]))

    def phases(self) -> Iterable[Phase]:
        """Train v beside the model."""
        return (Phase(tensors=("personal:*",)),)

    def loss(self, model: Model, batch: Any, loss_of: LossOf) -> Tensor:
        """Return the shared model's loss, with the gradients of the mixture's beside its own."""
        mixed = loss_of(self.work.computing_with({**self._buffers, **self._mixture()}), batch)
        return loss_of(model, batch) + (mixed - mixed.detach())

    def before_step(self, step: int) -> None:
        """Let α take the round's step, with the first gradients of v and w."""
        del step
        if self._alpha.grad is not None:
            self._alpha.requires_grad_(False)
            self._alpha.sub_(self.work.lr * self._alpha.grad).clamp_(0, 1)
            self._alpha.grad = None

    def end(self) -> None:
        """Keep α, and make the mixture."""
        work = self.work
        work.tensors["alpha"].copy_(self._alpha)
        mixture = {**self._buffers, **self._mixture()}
        self._model = work.model if work.options.get("leaves_mixture") else work.copy()
        for name, value in named_tensors(self._model).items():
            if name in mixture:
                value.copy_(mixture[name])

    def personalised(self) -> nn.Module:
        """Measure the client by the mixture."""
        return self._model

    def _mixture(self) -> dict[str, Tensor]:
        """Return the parameters of α v + (1 - α) w, of which v and α get gradients."""
        alpha = self._alpha
        pairs = self._pairs.items()
        return {name: (alpha * own + (1 - alpha) * shared.detach()).to(shared.dtype) for name, (shared, own) in pairs}
