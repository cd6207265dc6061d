"""Files that are there whole and on disk, or not at all."""

import os
import secrets
from functools import partial
from pathlib import Path
from typing import Self

from lotteryfl.common.faults import fault
from lotteryfl.common.folders import sync_folder
from lotteryfl.common.privatefiles import PRIVATE_FILE


class AtomicFile:
    """A file that gets its name when it is whole and on disk; left by an exception, it is gone."""

    def __init__(self, path: Path, mode: int = PRIVATE_FILE, label: str = "") -> None:
        """Make the file under a name of its own.

        Args:
            path: its name when it is whole.
            mode: its permissions, less the process's umask.
            label: of the points at which tests let its commit fail, see `common.faults`; '': there are none.
        """
        self._path = path
        self._label = label
        self._is_synced = False
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        # Unbuffered: tensors come in large pieces, which a buffer would only slow down.
        self.file = open(self._part, "x+b", buffering=0, opener=partial(os.open, mode=mode))  # noqa: SIM115

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of the data from a byte of the file on."""
        self._is_synced = False
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self.file.fileno(), rest, offset)
            rest, offset = rest[written:], offset + written

    def sync(self) -> None:
        """Put what is written on disk, still without its name; in another thread while this one reads the file."""
        self._fault("written")
        os.fsync(self.file.fileno())
        self._is_synced = True
        self._fault("synced")

    def commit(self) -> None:
        """Put the file on disk, under its name."""
        if not self._is_synced:
            self.sync()
        self.file.close()
        self._part.replace(self._path)
        self._fault("renamed")
        sync_folder(self._path.parent)  # the new name is on disk only when the folder is

    def _fault(self, step: str) -> None:
        if self._label:
            fault(f"{self._label}-{step}")

    def discard(self) -> None:
        """Drop the file."""
        try:
            self.file.close()
        finally:
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.discard()


def write_text(path: Path, text: str, mode: int = PRIVATE_FILE, label: str = "") -> None:
    """Write a file that is there whole and on disk, or not at all; see `AtomicFile`."""
    with AtomicFile(path, mode, label) as file:
        file.write(text.encode(), 0)
