"""The batches of several trainings side by side: each in its own order, filled up where it is the shorter one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lotteryfl.common.errors import OutputError
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.training.augmentation import Augmentation, OwnAugment
from lotteryfl.common.training.examples import Batch, Examples
from lotteryfl.common.training.given import Data
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.recipe import Recipe
from lotteryfl.common.training.structure import mapped, tensors_in


class Order:
    """In which order one training takes its examples: exactly as it would alone."""

    def __init__(
        self, data: Data, recipe: Recipe, objective: Objective, augment: OwnAugment | None, device: torch.device
    ) -> None:
        """Begin a training.

        Args:
            data: tensors in memory, see `common.training.given.Data`.
            recipe: of the training.
            objective: that batches are for.
            augment: the task's, done to every batch.
            device: where batches go.

        Raises:
            OutputError: the data are not tensors in memory.
        """
        settings = recipe.settings
        self.examples = Examples(data, device, objective)
        self.content = self.examples.content
        """All examples, as tensors of any structure with a row for each."""
        if self.content is None:
            raise OutputError(
                "engine.stacked: takes data that are tensors in memory, with batches as torch makes them: expected "
                "a TensorDataset, a pair of tensors or a dict of them, and no collate"
            )
        self._batches = settings.batches_of(len(self.examples))
        self.steps_of_epoch = ceil(self._batches / settings.accumulate)
        self.total = recipe.total_steps(self.steps_of_epoch)
        """Steps of the training."""
        self.form = str(mapped(lambda tensor: (tuple(tensor.shape[1:]), tensor.dtype), self.content))
        """What an example is, without its values."""
        self._settings = settings
        self._shuffler = torch.Generator().manual_seed(derive_seed(recipe.seed, "shuffle"))
        self._augmented = Augmentation(settings.augment, augment, recipe.seed, device)
        self.is_augmented = bool(settings.augment or augment)
        """Whether what is trained on is not what lies in memory."""

    def steps(self) -> Iterator[tuple[int, list[Batch]]]:
        """Yield every step's epoch, from 1, and its batches: their examples' indices, or, augmented, their content."""
        done = epoch = 0
        while done < self.total:
            epoch += 1
            batches = self._epoch()
            while done < self.total and (group := list(islice(batches, self._settings.accumulate))):
                done += 1
                yield epoch, group

    def _epoch(self) -> Iterator[Batch]:
        size = self._settings.batch_size
        if self.is_augmented:
            short = self._settings.short(has_batch_norm=False)  # which cannot be stacked
            return self._augmented.of(self.examples.shuffled(self._shuffler, size, short))
        order = torch.randperm(len(self.examples), generator=self._shuffler).numpy()
        pieces = (order[number * size : (number + 1) * size] for number in range(self._batches))
        return (Batch(piece, len(piece)) for piece in pieces)


@dataclass(frozen=True)
class Part:
    """A batch for every row."""

    content: Any
    """As the objective gets it, with a dimension for the rows before each tensor's own."""
    weights: Tensor
    """(rows, examples): what each example's loss counts for in its row's step; 0 beyond a row's own."""
    sizes: Sequence[int]
    """How many examples each row has here."""


class Parts:
    """Puts the batches of all rows together, always in one shape: what a row has too few of is another's, for 0."""

    def __init__(self, orders: Sequence[Order | None], batch_size: int, device: torch.device) -> None:
        """Take the trainings' data.

        Args:
            orders: of each row; None: it is missing.
            batch_size: most examples of a row's batch.
            device: where they go.

        Raises:
            OutputError: the rows' examples are not of one shape.
        """
        there = [order for order in orders if order is not None]
        self._rows, self._batch_size, self._device = len(orders), batch_size, device
        self._is_augmented = there[0].is_augmented
        lengths = [0 if order is None else len(order.examples) for order in orders]
        self._first = np.cumsum([0, *lengths[:-1]])
        self._all = None if self._is_augmented else _joined(torch.cat, [order.content for order in there])

    def of(self, batches: Sequence[Batch | None], weights: Sequence[float]) -> Part:
        """Return a part of a step.

        Args:
            batches: each row's; None: it has none.
            weights: of one of its examples.
        """
        sizes = [0 if batch is None else batch.size for batch in batches]
        counted = np.zeros((self._rows, self._batch_size), np.float32)
        for row, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
            counted[row, :size] = weight
        content = self._filled(batches) if self._is_augmented else self._chosen(batches)
        return Part(content, torch.from_numpy(counted).to(self._device), sizes)

    def _chosen(self, batches: Sequence[Batch | None]) -> Any:
        indices = np.zeros((self._rows, self._batch_size), np.int64)
        for row, batch in enumerate(batches):
            if batch is not None:
                indices[row, : batch.size] = batch.content + self._first[row]
                indices[row, batch.size :] = indices[row, 0]
        chosen = torch.from_numpy(indices).to(self._device)
        return mapped(lambda tensor: tensor[chosen], self._all)

    def _filled(self, batches: Sequence[Batch | None]) -> Any:
        spare = next(batch for batch in batches if batch is not None)
        whole = [self._whole(batch or spare) for batch in batches]
        return _joined(torch.stack, whole)

    def _whole(self, batch: Batch) -> Any:
        """Return a batch's content of full length, its first example being those that are lacking."""
        chosen = torch.arange(self._batch_size, device=self._device)
        chosen[batch.size :] = 0
        return mapped(lambda tensor: tensor[chosen], batch.content)


def _joined(function: Callable[[list[Tensor]], Tensor], contents: Sequence[Any]) -> Any:
    """Return contents of one structure as one: each tensor is a function of theirs.

    Raises:
        OutputError: they are not of one shape.
    """
    together = zip(*map(tensors_in, contents), strict=True)
    try:
        return mapped(lambda _: function(list(next(together))), contents[0])
    except RuntimeError as error:
        raise OutputError(f"engine.stacked: the clients' examples are not of one shape: {error}") from error
