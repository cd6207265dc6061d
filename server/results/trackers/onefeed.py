"""One process at a time feeds a run to a place: two would each add the same round."""

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path

from lotteryfl.common.disk.privatefiles import PRIVATE_FILE, PRIVATE_FOLDER


class OneFeed:
    """A file beside the run's logs that is locked while the run is fed, and that remembers a round.

    Where the directory cannot be written, as on a medium that is mounted to be read, nothing is locked or remembered.
    """

    def __init__(self, run: Path, kind: str, where: str) -> None:
        """Set what is fed: a run directory to a place of a kind."""
        digest = hashlib.sha256(where.encode()).hexdigest()[:8]
        self._path = run / "logs" / f"track-{kind}-{digest}"
        self._file: int | None = None

    def begin(self) -> bool:
        """Begin, and tell whether no other process is at it."""
        try:
            self._path.parent.mkdir(PRIVATE_FOLDER, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._file = file
        return True

    def end(self) -> None:
        """Let others begin."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def remembered(self) -> int:
        """The round that was remembered last; 0: none."""
        if self._file is not None:
            with suppress(ValueError):
                return int(os.pread(self._file, 16, 0))
        return 0

    def remember(self, round_: int) -> None:
        """Keep a round in mind, across processes that are killed."""
        if self._file is not None:
            os.pwrite(self._file, f"{round_:<15}\n".encode(), 0)
