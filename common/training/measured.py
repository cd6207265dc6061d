"""What an objective's own metrics come to on a data set: streamed through torchmetrics, on the device."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lotteryfl.common.errors import OutputError
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.training.objective import Objective

if TYPE_CHECKING:
    from torchmetrics import Metric


@dataclass(frozen=True)
class Evaluated:
    """What an objective measures on a data set."""

    examples: int
    loss: float
    """Mean over the batches, weighted by their examples."""
    values: dict[str, float]
    """Of every metric of the objective, by name."""


class Meter:
    """The metrics of one evaluation: they see it batch by batch, and keep no batch."""

    def __init__(self, objective: Objective, device: torch.device) -> None:
        self._objective = objective
        self._metrics: Mapping[str, Metric] = {name: metric.to(device) for name, metric in objective.metrics().items()}
        for metric in self._metrics.values():
            metric.reset()

    def see(self, outputs: Any, batch: Any) -> None:
        """Take a batch into account."""
        if self._metrics:
            self._objective.update(self._metrics, outputs, batch)

    def values(self) -> dict[str, float]:
        """Return what every metric has come to.

        Raises:
            OutputError: one cannot be computed, or is not one finite number.
        """
        return {name: self._value(name, metric) for name, metric in self._metrics.items()}

    def _value(self, name: str, metric: "Metric") -> float:
        what = f"{type(self._objective).__name__}: the metric {name}"
        try:
            value = metric.compute()
        except (ValueError, RuntimeError) as error:
            raise OutputError(f"{what}: {first_line(error)}") from error
        finally:
            metric.reset()
        if not isinstance(value, Tensor) or value.numel() != 1:
            form = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise OutputError(f"{what} is {form}: expected one number")
        number = float(value)
        if not isfinite(number):
            raise OutputError(f"{what} = {number}: expected a finite number")
        return number
