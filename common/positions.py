"""Where packed masks keep, found once for each: what moves values by a mask that it has seen does not search it."""

from threading import Lock

import numpy as np
from cachetools import LRUCache
from zlib_ng import zlib_ng

from lotteryfl.common import packedmasks
from lotteryfl.common.packedmasks import PackedMask

POSITION_BYTES = 64 << 20
"""Most that a worker holds: the masks of a model of 11 M parameters at density 0.1, of eleven clients."""


class Positions:
    """The kept positions of the masks that were used last, by what the masks are; for any number of threads."""

    def __init__(self, most_bytes: int = POSITION_BYTES) -> None:
        """Hold nothing yet.

        Args:
            most_bytes: of all masks with their positions; of a mask that takes more, nothing is held.
        """
        self._lock = Lock()
        self._held: LRUCache[tuple[int, int], _Held] = LRUCache(most_bytes, getsizeof=_nbytes)

    def of(self, packed: PackedMask) -> packedmasks.Positions | None:
        """Return the flat positions of the kept elements, ascending; None: they would take too much memory."""
        key = (packed.size, zlib_ng.crc32(packed))
        with self._lock:
            held = self._held.get(key)
        if held is not None and np.array_equal(held[0], packed):
            return held[1]
        if packed.nbytes + packedmasks.count(packed) * _ITEM > self._held.maxsize:
            return None
        found = packed.copy(), packedmasks.positions(packed)
        with self._lock:
            self._held[key] = found
        return found[1]


_Held = tuple[PackedMask, packedmasks.Positions]
_ITEM = np.dtype(np.int32).itemsize


def _nbytes(held: _Held) -> int:
    return sum(array.nbytes for array in held)
