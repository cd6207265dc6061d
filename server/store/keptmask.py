"""Masks that are on disk, as run.db names them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lotteryfl.common.names import Digest
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.payload import mask_density, mask_digest
from lotteryfl.common.wire.table import TensorTable

_MOST_AT_HAND = 64


class KeptMask(NamedTuple):
    """Masks that are on disk."""

    digest: Digest
    """The digest by which workers ask for the masks; '': there are none, the model is dense."""
    density: float
    """Kept share of the prunable weights."""


def kept_masks(table: TensorTable, of_clients: Iterable[Masks]) -> Iterator[tuple[int, KeptMask, Masks]]:
    """Yield for every client that has masks what they are called, and the masks themselves where they are new.

    Args:
        table: of the model.
        of_clients: each client's masks, in order; one object for many of them costs as one.
    """
    met: dict[int, tuple[Masks, KeptMask]] = {}  # the masks too: another object may not get the number of one
    for client, masks in enumerate(of_clients):
        if not masks:
            continue
        if known := met.get(id(masks)):
            yield client, known[1], {}
            continue
        if len(met) == _MOST_AT_HAND:
            met.clear()
        kept = KeptMask(mask_digest(masks), mask_density(table, masks))
        met[id(masks)] = masks, kept
        yield client, kept, masks
