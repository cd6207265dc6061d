"""The program on a terminal of its own: what it has drawn, and keys that are pressed."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.paths import ROOT
from tests.support.waiting import DEADLINE

_CONTROLLED = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'lotteryfl', *sys.argv[1:]])"
)
"""Makes the terminal the process's own, so that Ctrl-C reaches it."""


class Terminal:
    """One `lotteryfl …` whose stdin, stdout and stderr are a terminal."""

    def __init__(self, *arguments: object, cwd: Path, columns: int = 120, rows: int = 40, **env: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _CONTROLLED, *map(str, arguments)],
            cwd=cwd,
            env=_environment() | {"PYTHONPATH": str(ROOT), "TERM": "xterm", **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.raw = ""
        self._news = threading.Condition()
        self._talks = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._popen.kill()
        self._popen.wait(DEADLINE)
        self._reader.join(DEADLINE)
        os.close(self._ours)

    @property
    def text(self) -> str:
        """All that was drawn, one picture below the other, without how."""
        below = re.sub(r"\x1b\[\d*A", "\n", self.raw)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", below).replace("\r", "")

    def shows(self, pattern: str, since: int = 0) -> int:
        """Wait until something is drawn that matches; return how much had been drawn by then.

        Args:
            pattern: of what is drawn.
            since: not before so much had been drawn.
        """
        with self._news:
            while not re.search(pattern, self.text[since:], re.MULTILINE) and self._talks:
                assert self._news.wait(DEADLINE), self.text
            assert re.search(pattern, self.text[since:], re.MULTILINE), f"{pattern!r} not in:\n{self.text[since:]}"
            return len(self.text)

    def press_ctrl_c(self) -> None:
        os.write(self._ours, b"\x03")

    def exit_code(self) -> int:
        code = self._popen.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def _read(self) -> None:
        raw = b""
        while True:
            try:
                chunk = os.read(self._ours, 65536)
            except OSError:  # the other end is closed
                chunk = b""
            with self._news:
                raw += chunk
                self.raw, self._talks = raw.decode(errors="ignore"), bool(chunk)
                self._news.notify_all()
            if not chunk:
                return


def _environment() -> dict[str, str]:
    """Return what is set here but for the size of a terminal, and what colours it may have."""
    return {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
