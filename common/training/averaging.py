"""The mean of a model over the steps of its training, the later ones counting for more."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Averaged:
    """Exponential moving averages of what a training changes: parameters, and what norms measure."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
        self._values = [*trained, *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
        self._means: list[Tensor] = []
        self._update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def take(self) -> None:
        """Count the model as it is after a step; the first is the mean so far."""
        if self._means:
            self._update(self._means, self._values, 0)
        else:
            self._means = [value.clone() for value in self._values]

    @torch.no_grad()
    def swap(self) -> None:
        """Put the means in the model's place, and what it held in theirs."""
        for value, mean in zip(self._values, self._means, strict=True):
            held = value.clone()
            value.copy_(mean)
            mean.copy_(held)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Have the means in the model's place for a while."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
