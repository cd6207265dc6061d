"""What clients were dealt: by client, in little memory."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from lotteryfl.common.tasks.partition.classes import IntArray


class Dealt(Protocol):
    """Who holds which examples."""

    def of(self, client: int) -> IntArray:
        """Return what a client was dealt, in the order of dealing."""


class Parts:
    """Every example dealt once: one array for all clients, and where each one's part begins."""

    def __init__(self, parts: Iterable[IntArray]) -> None:
        """Take the parts of clients 0, 1, …"""
        narrow = [part.astype(np.int32) for part in parts]
        self._starts = np.cumsum([0, *map(len, narrow)])
        self._examples = np.concatenate(narrow)

    def of(self, client: int) -> IntArray:
        """Return what a client was dealt."""
        return self._examples[self._starts[client] : self._starts[client + 1]].astype(np.int64)
