"""Models of one shape as one: every parameter and buffer with a row for each model."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lotteryfl.common.pruning.pruned import Pruned
from lotteryfl.common.training.objective import Objective


class StackedModels(nn.Module):
    """The tensors of several models, stacked; a model that is missing has a row all the same.

    So whatever is computed has the same shape whoever is there, and a row comes out the same.
    """

    def __init__(self, models: Sequence[nn.Module | None], device: torch.device) -> None:
        """Stack copies of the models' tensors.

        Args:
            models: of one shape; at least one is there.
            device: where to.
        """
        super().__init__()
        spare = next(model for model in models if model is not None)
        whose = [spare if model is None else model for model in models]
        self.names: dict[str, str] = {}
        """Name in the models → name here."""
        parameters = [dict(model.named_parameters()) for model in whose]
        for name, parameter in spare.named_parameters():
            stacked = _stacked(own[name] for own in parameters).to(device)
            self.register_parameter(self._named(name), nn.Parameter(stacked, requires_grad=parameter.requires_grad))
        buffers = [dict(model.named_buffers()) for model in whose]
        for name, _ in spare.named_buffers():
            self.register_buffer(self._named(name), _stacked(own[name] for own in buffers).to(device))

    def _named(self, name: str) -> str:
        self.names[name] = name.replace(".", "/")
        return self.names[name]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The stacked tensors, by their names in the models."""
        return {name: getattr(self, here) for name, here in self.names.items()}

    @torch.no_grad()
    def put_into(self, model: nn.Module, row: int) -> None:
        """Give a model the values of its row."""
        tensors = self.tensors
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            tensor.copy_(tensors[name][row])

    def pruned(self, models: Sequence[nn.Module | None], pruned: Sequence[Sequence[Pruned]]) -> list[Pruned]:
        """Return the stacked weights of which something is pruned in any row.

        Args:
            models: as they were stacked.
            pruned: each one's pruned weights; none of one that is missing.
        """
        masks: dict[str, dict[int, Tensor]] = {}
        for row, (model, own) in enumerate(zip(models, pruned, strict=True)):
            names = {} if model is None else {id(parameter): name for name, parameter in model.named_parameters()}
            for each in own:
                masks.setdefault(names[id(each.tensor)], {})[row] = each.mask
        return [Pruned(self.tensors[name], self._mask(self.tensors[name], rows)) for name, rows in masks.items()]

    @staticmethod
    def _mask(tensor: Tensor, rows: Mapping[int, Tensor]) -> Tensor:
        mask = torch.ones_like(tensor, requires_grad=False)
        for row, own in rows.items():
            mask[row] = own
        return mask


class Forward:
    """What every row's model makes of its own batch."""

    def __init__(self, template: nn.Module, objective: Objective, rows: StackedModels) -> None:
        """Take a model of that shape, whose own values do not matter, as it computes in a stacked training."""
        self._computes = _Computes(template, objective)
        self._tensors = {f"model.{name}": tensor for name, tensor in rows.tensors.items()}
        # What is random by itself would be one generator's for all: an error, as what layers draw has its own way.
        self._outputs = vmap(self._of_row, randomness="error")

    def __call__(self, batch: Any) -> Any:
        """Return the outputs (rows, examples, …) for a batch of tensors (rows, examples, …)."""
        return self._outputs(self._tensors, batch)

    def _of_row(self, tensors: dict[str, Tensor], batch: Any) -> Any:
        return functional_call(self._computes, tensors, (batch,))


class _Computes(nn.Module):
    """An objective's outputs as a module, of which `functional_call` wants one."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, batch: Any) -> Any:
        return self._objective.outputs(self.model, batch)


def _stacked(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack([tensor.detach() for tensor in tensors])
