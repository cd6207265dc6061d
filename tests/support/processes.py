"""Real processes of the program: started, listened to, signalled, and always ended."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

from tests.support.paths import ROOT
from tests.support.waiting import DEADLINE
from tests.support.warm import forked

PROGRAM = str(Path(sys.executable).with_name("lotteryfl"))


class Process:
    """One `lotteryfl …`, in a session of its own, with what it has written so far."""

    def __init__(
        self, *arguments: object, cwd: Path, env: Mapping[str, str], descriptors: Collection[int] = ()
    ) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env}
        command = [PROGRAM, *map(str, arguments)]
        self._popen = (not descriptors and forked(command, str(cwd), environment)) or subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=descriptors,
        )
        self._news = threading.Condition()
        self._texts = {"stdout": "", "stderr": ""}
        self._talking = {"stdout", "stderr"}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("stdout", self._popen.stdout), ("stderr", self._popen.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def stdout(self) -> str:
        return self._texts["stdout"]

    @property
    def stderr(self) -> str:
        return self._texts["stderr"]

    @property
    def error_line(self) -> str:
        """The one line that starts with the program's name, after a failure without a traceback."""
        assert "Traceback" not in self.stderr, self.stderr
        lines = [line for line in self.stderr.splitlines() if line.startswith("lotteryfl: ")]
        assert len(lines) == 1, self.stderr
        return lines[0].removeprefix("lotteryfl: ")

    def said(self, pattern: str, seconds: float = DEADLINE) -> re.Match[str]:
        """Wait until a line matches, for as long as others come, and return the match."""
        line = re.compile(pattern, re.MULTILINE)

        def match() -> re.Match[str] | None:
            return line.search(self.stderr) or line.search(self.stdout)

        with self._news:
            while not match() and self._talking and self._news.wait(seconds):
                pass
        found = match()
        assert found, f"{pattern!r} not in:\n{self.stdout}\n{self.stderr}"
        return found

    def exit_code(self, seconds: float = DEADLINE) -> int:
        """Wait for the process's end."""
        code = self._popen.wait(seconds)
        for reader in self._readers:
            reader.join(seconds)
        return code

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def end(self) -> None:
        """Leave nothing behind: SIGTERM first, so that it can end its own workers."""
        if self._popen.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                self._popen.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                os.killpg(self._popen.pid, signal.SIGKILL)
        self.exit_code()

    def _read(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            with self._news:
                self._texts[name] += line
                self._news.notify_all()
        with self._news:
            self._talking.remove(name)
            self._news.notify_all()


class Visit(NamedTuple):
    """A worker that waits at the gate for a client's data."""

    client: int
    pid: int
    connection: socket.socket

    def let_go(self) -> None:
        self.connection.close()


class Gate:
    """Where the clients of `gated_task` wait until the test lets them go."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._visits: list[Visit] = []
        self.env = {"GATE": str(self._listener.getsockname()[1])}

    def arrival(self, seconds: float = DEADLINE) -> Visit:
        """Wait for the next client."""
        self._listener.settimeout(seconds)
        connection, _ = self._listener.accept()
        connection.settimeout(seconds)
        client, pid = connection.makefile().readline().split()
        visit = Visit(int(client), int(pid), connection)
        self._visits.append(visit)
        return visit

    def open(self) -> None:
        """Let everyone go, from now on."""
        self._listener.close()
        for visit in self._visits:
            visit.let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()


def free_port() -> int:
    """Return a port that nobody listens at, and that no connection gets meanwhile: theirs are from 32768 on."""
    for port in random.SystemRandom().sample(range(20000, 32768), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no free port")
