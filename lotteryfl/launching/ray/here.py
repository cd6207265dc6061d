"""A process on this machine that outlives whoever has started it, and that any process can find again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lotteryfl.common.disk.heldfile import hold, is_held
from lotteryfl.common.disk.privatefiles import private
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.telemetry.logs import OWN_WORD, last_line
from lotteryfl.running.environment import inherited

_STOP_SECONDS = 30.0
_PAUSE_SECONDS = 0.1


class ProcessHere:
    """One `lotteryfl …`; it holds a lock for as long as it lives, so that its number is never taken for another's."""

    def __init__(self, lock: Path, log: Path) -> None:
        """Set which.

        Args:
            lock: the file that it holds, with its number.
            log: the file that gets its lines.
        """
        self._lock = lock
        self._log = log

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return is_held(self._lock)

    def start(self, arguments: Sequence[str]) -> None:
        """Start it.

        Args:
            arguments: of the program.

        Raises:
            LotteryFLError: it runs already.
        """
        held = f"{self._lock}: a process of this launch runs already"
        with hold(self._lock, held) as lock, open(self._log, "ab", opener=private) as log:
            lock.truncate(0)
            process = subprocess.Popen(  # noqa: S603 - the program itself
                [sys.executable, "-P", "-m", "lotteryfl", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock.fileno(),),  # and with it the lock
                start_new_session=True,
                env={**inherited(), "PYTHONUNBUFFERED": "1"},
            )
            lock.write(f"{process.pid}\n".encode())

    def reason(self) -> str:
        """Return why it has ended: its own word, if it has left one."""
        last = last_line(self._log)
        return (
            last.removeprefix(OWN_WORD) if last.startswith(OWN_WORD) else f"was ended before its end; log: {self._log}"
        )

    def end(self) -> None:
        """End it, if it runs.

        Raises:
            LotteryFLError: it runs, and nobody knows its number.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.is_alive:
                break
            with suppress(ProcessLookupError):
                os.kill(self._pid(), number)
            end = time.monotonic() + _STOP_SECONDS
            while self.is_alive and time.monotonic() < end:
                time.sleep(_PAUSE_SECONDS)
        self._lock.unlink(missing_ok=True)

    def _pid(self) -> int:
        text = self._lock.read_text().strip()
        if not text.isdecimal():
            raise LotteryFLError(f"{self._lock}: a process holds it, and has not said its number: end it by hand")
        return int(text)
