"""A partition's digest: two runs with the same one deal the same examples to the same clients."""

import hashlib

import numpy as np

from lotteryfl.common.names import Digest
from lotteryfl.common.tasks.partition.dealt import Partition


def partition_digest(partition: Partition, clients: int) -> Digest:
    """Return the SHA-256 of who holds what.

    Of client after client, and of each its training, validation and test examples, it takes in how many they are and
    their indices, in order, as little-endian int64.

    Args:
        partition: it.
        clients: of clients 0 … clients - 1.
    """
    found = hashlib.sha256()
    for client in range(clients):
        indices = partition.client(client)
        for part in (indices.train, indices.validation, indices.test):
            found.update(np.array(len(part), dtype="<i8").tobytes())
            found.update(np.ascontiguousarray(part, dtype="<i8").data)
    return Digest(found.hexdigest())
