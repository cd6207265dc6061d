"""FedALA, the client's half: weights of the top layers' elements are trained, then the model that they give."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from lotteryfl.client.local.algorithm import LocalAlgorithm, LossOf, Model, Phase


class FedALA(LocalAlgorithm):
    """Moves the client's last top layers towards the shared ones, as far as each element's weight says."""

    name = "fedala"

    def begin(self) -> None:
        """Find the top: as many of the last parameters as there are weights."""
        tensors = self.work.tensors
        count = sum(name.startswith("weight.") for name in tensors)
        trained = [(name, value) for name, value in self.work.named_parameters().items() if value.requires_grad]
        self._top = [
            (name, value, tensors[f"last.{place}"], tensors[f"weight.{place}"])
            for place, (name, value) in enumerate(trained[-count:])
        ]
        self._weighing = int(self.work.options["epochs"])
        self._buffers = {name: buffer.clone() for name, buffer in self.work.model.named_buffers()}

    def phases(self) -> Iterable[Phase]:
        """Train the weights, where there is a last model, then everything as the plan says."""
        if self._weighing:
            yield Phase(trains=(), tensors=("weight.*",), epochs=self._weighing)
        yield Phase()

    def loss(self, model: Model, batch: Any, loss_of: LossOf) -> Tensor:
        """Return the loss of the model that the weights give, while they are trained."""
        return loss_of(self._weighed_model() if self._weighing else model, batch)

    def before_step(self, step: int) -> None:
        """Note where the weights' plain step leads to."""
        del step
        eta = self.work.options["eta"]
        weights = [weight for *_, weight in self._top if self._weighing and weight.grad is not None]
        self._next = [(weight, (weight - eta * weight.grad).clamp_(0, 1)) for weight in weights]

    def after_step(self, step: int) -> None:
        """Have the weights there, in the place of where the optimizer has led them."""
        del step
        for weight, value in self._next:
            weight.copy_(value)

    def after_epoch(self, epoch: int) -> None:
        """Begin the model's own training with what the weights give."""
        if epoch == self._weighing:
            weighed = self._weighed()
            for name, value, *_ in self._top:
                value.copy_(weighed[name])
            self._weighing = 0

    def end(self) -> None:
        """Keep the top for the next time."""
        for _, value, last, _ in self._top:
            last.copy_(value)

    def _weighed(self) -> dict[str, Tensor]:
        return {
            name: (last + (value.detach() - last) * weight).to(value.dtype) for name, value, last, weight in self._top
        }

    def _weighed_model(self) -> Model:
        return self.work.computing_with({**self._buffers, **self._weighed()})
