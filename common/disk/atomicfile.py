"""Files that are there whole and on disk, or not at all."""

import os
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

from lotteryfl.common.disk.folders import sync_folder
from lotteryfl.common.disk.privatefiles import PRIVATE_FILE
from lotteryfl.common.disk.writeback import begin_write_back
from lotteryfl.common.faults import fault

PART = re.compile(r"\..+\.[0-9a-f]{8}\.part", re.ASCII)
"""What a file is called that is not whole yet, or was not when its process was killed."""

_AT_ONCE = 8 << 20
"""Bytes that are written before the disk gets to work on them."""

_FEW = 1 << 20
"""Bytes of a file up to which a thread would take longer to start than it saves."""


class AtomicFile:
    """A file that gets its name when it is whole and on disk; left by an exception, it is gone."""

    def __init__(self, path: Path, mode: int = PRIVATE_FILE, label: str = "") -> None:
        """Make the file under a name of its own.

        Args:
            path: its name when it is whole.
            mode: its permissions, less the process's umask.
            label: of the points at which tests let its commit fail, see `common.faults`; '': there are none.
        """
        self.path = path
        """Its name when it is whole."""
        self._label = label
        self._is_synced = False
        self._written = self._waiting = 0
        self.part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        """Its name until then."""
        # Unbuffered: tensors come in large pieces, which a buffer would only slow down.
        self.file = open(self.part, "x+b", buffering=0, opener=partial(os.open, mode=mode))  # noqa: SIM115

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of the data from a byte of the file on."""
        self._is_synced = False
        rest = memoryview(data)
        self._written += len(rest)
        self._waiting += len(rest)
        while rest:
            written = os.pwrite(self.file.fileno(), rest, offset)
            rest, offset = rest[written:], offset + written
        if self._waiting >= _AT_ONCE:
            self._waiting = 0
            begin_write_back(self.file.fileno())

    @contextmanager
    def synced_meanwhile(self) -> Iterator[None]:
        """Put what is written on disk while the block reads it, if that pays; still without its name."""
        if self._written <= _FEW:
            yield
            return
        with ThreadPoolExecutor(1) as disk:
            syncing = disk.submit(self._sync)
            yield
            syncing.result()

    def commit(self) -> None:
        """Put the file on disk, under its name."""
        if not self._is_synced:
            self._sync()
        self.file.close()
        self.part.replace(self.path)
        self._fault("renamed")
        sync_folder(self.path.parent)  # the new name is on disk only when the folder is

    def _sync(self) -> None:
        self._fault("written")
        os.fsync(self.file.fileno())
        self._is_synced = True
        self._fault("synced")

    def _fault(self, step: str) -> None:
        if self._label:
            fault(f"{self._label}-{step}")

    def discard(self) -> None:
        """Drop the file."""
        try:
            self.file.close()
        finally:
            self.part.unlink(missing_ok=True)

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
