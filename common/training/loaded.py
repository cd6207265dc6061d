"""Data sets that say how batches are made of their examples, and by how many processes they are read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from lotteryfl.common.training.structure import collate as as_torch_does

Collate = Callable[[list[Any]], Any]
"""Examples → a batch."""


@dataclass(frozen=True, eq=False)
class Loaded(Dataset[Any]):
    """A data set with what else there is to know of reading it."""

    data: Dataset[Any]
    """Map-style, or a stream."""
    collate: Collate = as_torch_does
    workers: int = 0
    """Processes that read examples, where they are map-style; 0: this one does."""
    code: object = None
    """Unpickled in such a process before all else: what imports the code that the data set is of."""

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self.data[index]

    def of(self, data: Dataset[Any]) -> "Loaded":
        """Return another data set that is read the same way."""
        return replace(self, data=data)


class Reader:
    """Reads batches of a map-style data set by their indices; its processes end with it."""

    def __init__(self, source: Loaded) -> None:
        self._batches: list[list[int]] = []
        # Its own generator, because a DataLoader draws from it even when the order is given; of it its processes are
        # seeded, which draw what the data set draws unasked.
        generator = torch.Generator()
        if source.workers:
            generator.manual_seed(int(torch.randint(2**62, ())))
        self._loader = DataLoader(
            _Coded(source.code, source.data) if source.workers else source.data,
            batch_sampler=self._batches,
            generator=generator,
            collate_fn=source.collate,
            num_workers=source.workers,
            multiprocessing_context="spawn" if source.workers else None,
            persistent_workers=source.workers > 0,
        )

    def read(self, batches: list[list[int]]) -> Any:
        """Return an iterator over the batches of these examples."""
        self._batches[:] = batches
        return iter(self._loader)


class _Coded(Dataset[Any]):
    """A data set of a user's code, of which another process knows nothing: what imports it is unpickled first."""

    def __init__(self, code: object, data: Dataset[Any]) -> None:
        self._code = code
        self._data = data

    def __len__(self) -> int:
        return len(self._data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self._data[index]
