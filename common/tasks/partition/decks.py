"""Items dealt in random order, again and again; no draw holds an item twice.

When all are dealt they are shuffled anew: the next deck. What the draw that runs over the end of a deck holds already
goes last in the new order: it is not lost, but comes up later. Nothing that is dealt is kept but the deck that was
asked for last, and, here and there, from where to shuffle on: memory grows with the draws, not with what they hold.
"""

from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lotteryfl.common.tasks.partition.classes import IntArray

_SPACING = 1 << 18
"""Items between two places from which can be shuffled on, at least a deck: some two milliseconds."""

_Order = npt.NDArray[np.integer]
"""Places of items."""


class _Place(NamedTuple):
    """Where a deck begins."""

    deck: int
    state: Any
    """Of the generator."""
    held: _Order
    """Places of the items that the draw over its beginning holds already."""


class Decks:
    """One pool, and the draws from it, client after client."""

    def __init__(self, items: IntArray, rng: np.random.Generator, clients: IntArray, counts: IntArray) -> None:
        """Set who draws how much; nothing is shuffled yet.

        Args:
            items: what is dealt.
            rng: shuffles; it is this pool's alone.
            clients: who draws, ascending.
            counts: how much each of them draws, from 1 to all items.
        """
        self._items = items.astype(np.int32)
        self._rng = rng
        self._clients = clients.astype(np.int32)
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._all: _Order = np.arange(len(items))  # of 8 bytes each: of fewer, numpy shuffles them more slowly
        self._places = [_Place(0, rng.bit_generator.state, self._all[:0])]
        self._every = max(1, _SPACING // max(1, len(items)))
        self._next = self._places[0]
        self._deck = -1
        self._order: _Order = self._all[:0]
        self._lock = Lock()

    def of(self, client: int) -> IntArray:
        """Return what a client drew; nothing, where it drew not at all."""
        number = int(np.searchsorted(self._clients, client))
        if number == len(self._clients) or self._clients[number] != client:
            return np.empty(0, dtype=np.int64)
        begin, end = self._starts[number : number + 2].tolist()
        size = len(self._items)
        with self._lock:
            drawn = [
                self._deck_order(deck)[max(0, begin - deck * size) : end - deck * size]
                for deck in range(begin // size, (end - 1) // size + 1)
            ]
        return self._named(np.concatenate(drawn))

    def all(self) -> IntArray:
        """Return what all drew, one after the other."""
        total, size = int(self._starts[-1]), len(self._items)
        with self._lock:
            dealt = [self._deck_order(deck) for deck in range(-(-total // size))]
        return self._named(np.concatenate([*dealt, self._all[:0]])[:total])

    def _named(self, places: _Order) -> IntArray:
        return np.asarray(self._items[places], dtype=np.int64)

    def _deck_order(self, deck: int) -> _Order:
        """Return the order of a deck: shuffled from the last place before it from which that goes."""
        if deck == self._deck:
            return self._order
        if deck < self._next.deck:
            self._next = self._places[deck // self._every]
            self._rng.bit_generator.state = self._next.state
        while self._next.deck < deck:
            self._shuffle(whole=False)
        self._deck, self._order = deck, self._shuffle(whole=True)
        return self._order

    def _shuffle(self, *, whole: bool) -> _Order:
        """Shuffle the next deck, and learn what the draw over its end holds of it; return it whole, or that alone."""
        deck, _, held = self._next
        shuffled: _Order = self._rng.permutation(self._all)
        size = len(shuffled)
        over = self._over(deck)
        again = np.zeros(size, dtype=bool)
        again[held] = True
        last: _Order = shuffled[again[shuffled]] if len(held) else held
        if whole:
            order = np.concatenate([shuffled[~again[shuffled]], last]) if len(held) else shuffled
            end = order[size - over :]
        else:
            before = shuffled[size - over :]  # of these at least so many are not last
            order = end = np.concatenate([before[~again[before]], last])[-over:] if over else self._all[:0]
        self._next = _Place(deck + 1, None, end.astype(np.int32))
        if (deck + 1) % self._every == 0 and (deck + 1) // self._every == len(self._places):
            self._places.append(self._next._replace(state=self._rng.bit_generator.state))
        return order

    def _over(self, deck: int) -> int:
        """Return how many items of a deck's end the draw has that goes on in the next one."""
        end = (deck + 1) * len(self._items)
        if end >= self._starts[-1]:
            return 0
        return int(end - self._starts[np.searchsorted(self._starts, end, side="right") - 1])
