"""`lotteryfl work` or `lotteryfl serve` as an actor's child: started, watched, ended. Imports neither torch nor Ray."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from lotteryfl.common.disk.privatefiles import private
from lotteryfl.common.telemetry.logs import last_line
from lotteryfl.running.environment import inherited


@dataclass(frozen=True)
class Handed:
    """What a child reads like a file that lies on no disk: it is gone with the last process that has it open."""

    option: str
    """By which the child is told where it is; '': by its place alone."""
    content: bytes = field(repr=False)


class Child:
    """One process of the program; it does not outlive this one."""

    def __init__(
        self, arguments: Sequence[str], handed: Sequence[Handed], environment: dict[str, str], log: Path
    ) -> None:
        """Start it.

        Args:
            arguments: of the program.
            handed: what it reads, after them.
            environment: variables beside this process's own, less who that is to a coordinator.
            log: the file that gets its lines.
        """
        self._log = log
        self._line, theirs = socket.socketpair()
        with ExitStack() as stack:
            stack.enter_context(theirs)
            files = [stack.enter_context(_memory_file(each.content)) for each in handed]
            told = [_told(each, file.fileno()) for each, file in zip(handed, files, strict=True)]
            command = [sys.executable, "-P", "-m", "lotteryfl.launching.ray.ward", str(theirs.fileno())]
            written = stack.enter_context(open(log, "ab", opener=private))
            self._popen = subprocess.Popen(  # noqa: S603 - the program itself
                [*command, *arguments, *told],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                pass_fds=(theirs.fileno(), *(file.fileno() for file in files)),
                start_new_session=True,
                env={**inherited(), "PYTHONUNBUFFERED": "1", **environment},
            )

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """Its exit code, or below 0 the signal that has ended it; None: it runs."""
        return self._popen.poll()

    def wait(self) -> int:
        """Wait for its end, and return `code`."""
        return self._popen.wait()

    def end(self, seconds: float) -> None:
        """Let it hand back what it has under work, for so long, and end it."""
        self._popen.terminate()
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def last_line(self) -> str:
        """Return what it has written last, as its reason; '': nothing."""
        return last_line(self._log)


def _memory_file(content: bytes) -> BinaryIO:
    file = os.fdopen(os.memfd_create("handed"), "wb")
    file.write(content)
    file.flush()
    return file


def _told(handed: Handed, descriptor: int) -> str:
    path = f"/proc/self/fd/{descriptor}"
    return f"{handed.option}={path}" if handed.option else path
