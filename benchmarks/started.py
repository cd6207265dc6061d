"""Processes as people start them, what they say, and the memory that they had at their peak, on Linux."""

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_PATIENCE = 600.0
_PERIOD = 0.05


class Memory(NamedTuple):
    """What a process had at its peak, in megabytes."""

    resident: float
    """In memory, pages of mapped files included: the kernel keeps count."""
    own: float
    """Without those, which the kernel drops at will: as seen every so often."""


class Started:
    """A process that ends by itself."""

    def __init__(self, said: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it.

        Args:
            said: a new file, for what it prints; what it complains of goes beside it.
            command: program and arguments.
            environment: what is set beside this process's own.
        """
        self._said, self._complained = said, said.with_suffix(".err")
        with self._said.open("wb") as out, self._complained.open("wb") as err:
            self._process = subprocess.Popen(  # noqa: S603 - of the benchmark's own words
                command, cwd=ROOT, env={**os.environ, **environment}, stdout=out, stderr=err
            )
        self._until = time.monotonic() + _PATIENCE

    def lines(self) -> list[str]:
        """Return what it has printed."""
        return self._said.read_text(encoding="utf-8", errors="replace").splitlines()

    def wait_for_port(self, host: str, port: int) -> None:
        """Wait until it takes connections.

        Raises:
            RuntimeError: it has ended instead.
        """
        while self._goes_on():
            with socket.socket() as probe:
                if probe.connect_ex((host, port)) == 0:
                    return
        raise self._failure()

    def memory_until_end(self) -> Memory:
        """Wait for its end; return the memory that it had.

        Raises:
            RuntimeError: it failed, or does not end.
        """
        peak = Memory(0.0, 0.0)
        while self._goes_on():
            peak = Memory(*map(max, peak, _memory(self._process.pid)))
        if self._process.returncode:
            raise self._failure()
        return peak

    def stop(self) -> None:
        """End it, unless it has ended."""
        self._process.kill()
        self._process.wait()

    def _goes_on(self) -> bool:
        """Tell, after a moment, whether it has not ended; where it takes too long, end it."""
        try:
            self._process.wait(_PERIOD)
        except subprocess.TimeoutExpired:
            if time.monotonic() < self._until:
                return True
            self.stop()
        return False

    def _failure(self) -> RuntimeError:
        complaint = self._complained.read_text(encoding="utf-8", errors="replace").strip()
        return RuntimeError(f"{self._process.args!r} ended with {self._process.returncode}: {complaint[-2000:]}")


def _memory(pid: int) -> Memory:
    """Return what a process has had, and has; nothing, where it has ended meanwhile."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Memory(0.0, 0.0)
    fields = dict(line.split(":", 1) for line in status.splitlines())
    resident, own = (1024 / 1e6 * int(fields.get(name, "0 kB").split()[0]) for name in ("VmHWM", "RssAnon"))
    return Memory(resident, own)
