"""An index file: who holds which examples, written by any tool.

JSON: an object with a key for each client, "0", "1", …, or a list of them in this order. A client is a list of indices
of training examples, from 0, or an object with "train" and, where these are not to be chosen here, "validation" (of
the training data too) and "test" (of the test data).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lotteryfl.common.errors import ExperimentError, TaskError
from lotteryfl.common.experiment.indexfile import index_bytes
from lotteryfl.common.tasks.partition.classes import IntArray
from lotteryfl.common.text import quoted

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Listed:
    """One client's examples in the file's order; None: not said."""

    train: IntArray
    validation: IntArray | None = None
    test: IntArray | None = None

    @property
    def held(self) -> IntArray:
        """Its training and validation examples."""
        return self.train if self.validation is None else np.concatenate([self.train, self.validation])


def read_index_file(path: Path, sha256: str, clients: int, train: int, test: int) -> list[Listed]:
    """Return what an index file says of clients 0 … clients - 1; it may say more.

    Args:
        path: of the file.
        sha256: what it must have; empty: any.
        clients: how many the experiment has.
        train: how many training examples there are.
        test: how many test examples.

    Raises:
        TaskError: the file cannot be read, is another one, or says of a client what cannot be.
    """
    try:
        content = index_bytes(path)
    except ExperimentError as error:
        raise TaskError(f"{error}; a worker looks for it in its --data-dir, or takes --index-file") from error
    if sha256 and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise TaskError(f"{path}: its SHA-256 is {found}, the run's index file has {sha256}")
    try:
        listed = json.loads(content, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{path}: not valid JSON: {error}") from error
    return [
        _listed(_of_client(listed, client, path), f"{path}: client {client}", train, test) for client in range(clients)
    ]


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _of_client(listed: Any, client: int, path: Path) -> Any:
    match listed:
        case list() if client < len(listed):
            return listed[client]
        case dict() if str(client) in listed:
            return listed[str(client)]
        case list() | dict():
            raise TaskError(f"{path}: says nothing of client {client}, and of {len(listed)} clients altogether")
    raise TaskError(f"{path}: is {quoted(listed)}, expected an object or a list with an entry for each client")


def _listed(entry: Any, what: str, train: int, test: int) -> Listed:
    parts = entry if isinstance(entry, dict) else {"train": entry}
    if unknown := sorted(set(parts) - set(_PARTS)):
        raise TaskError(f"{what}: unknown key {quoted(unknown[0])}, expected {', '.join(_PARTS)}")
    if "train" not in parts:
        raise TaskError(f"{what}: expected a list of indices, or an object with 'train'")
    arrays = {
        name: _indices(part, f"{what}: {name}", test if name == "test" else train) for name, part in parts.items()
    }
    listed = Listed(**arrays)
    for name, indices in (("training and validation", listed.held), ("test", listed.test)):
        if indices is not None and len(np.unique(indices)) < len(indices):
            raise TaskError(f"{what}: an index is twice in its {name} examples")
    return listed


def _indices(part: Any, what: str, size: int) -> IntArray:
    if not isinstance(part, list):
        raise TaskError(f"{what} is {quoted(part)}, expected a list of indices")
    for index in part:
        if type(index) is not int or not 0 <= index < size:
            raise TaskError(f"{what} holds {quoted(index)}, expected integers from 0 to {size - 1}")
    return np.array(part, dtype=np.int64)
