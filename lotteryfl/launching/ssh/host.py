"""One host: connected, asked for its version, put to work, and connected again when it has gone."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.ssh.calls import READY, STOP_SECONDS, HostCalls
from lotteryfl.launching.ssh.processes import last_line, size, started
from lotteryfl.launching.ssh.retrying import ConnectionGoneError, Retrying, WorkerFailedError
from lotteryfl.launching.ssh.version import check_version

_SSH_FAILED = 255
"""ssh's exit code when it is the connection that has failed, and not what was called over it."""

_GRACE_SECONDS = 5.0
"""How long ssh has to end when what it called has."""

_VERSION_SECONDS = 60.0
"""How long the program there may take to say its version: modules and environments are loaded before."""

_MOST_SAID = 1 << 16


class Host:
    """One host, for as long as its launch lasts."""

    def __init__(self, calls: HostCalls, log: Path, note: Callable[[str], None]) -> None:
        """Set how it is used.

        Args:
            calls: its command lines.
            log: where all goes that it says.
            note: is told in a line what becomes of it.
        """
        self.name = calls.host.host
        """As people know it."""
        self._calls = calls
        self._log = log
        self._note = note
        self._attempt = 0
        self._connection = contextlib.AsyncExitStack()
        self._is_connected = False

    async def connect(self) -> None:
        """Connect for the first time, and check the version there.

        Raises:
            LotteryFLError: it cannot be reached, or its version does not fit.
        """
        await self._connect()
        said = await self._version()
        check_version(self.name, said, any_version=self._calls.settings.ssh.any_version)

    async def close(self) -> None:
        """End the connection; twice is no error."""
        self._is_connected = False
        await self._connection.aclose()

    async def work(self) -> None:
        """Have it work until the run is over; connect it again whenever it has gone.

        Raises:
            LotteryFLError: it is given up.
        """
        retrying = Retrying(self._calls.settings.ssh.reconnect_seconds)
        while True:
            try:
                if not self._is_connected:
                    await self._connect()
                    self._note(f"{self.name}: is connected again")
                with retrying.trying():
                    await self._work()
                return
            except (ConnectionGoneError, WorkerFailedError) as error:
                await self.close()
                pause = retrying.pause(error)
                self._note(f"{error}; it is tried again")
            await asyncio.sleep(pause)

    async def _connect(self) -> None:
        self._attempt += 1
        begin = size(self._log)
        try:
            async with asyncio.timeout(2 * self._calls.settings.ssh.connect_seconds):
                self._is_connected = await self._opened() and await self._has_tunnel()
            why = last_line(self._log, begin)
        except TimeoutError:
            why = "it does not answer"
        if not self._is_connected:
            await self.close()
            raise ConnectionGoneError(f"{self.name}: cannot be connected: {why}")

    async def _opened(self) -> bool:
        """Open a connection; tell whether it is there."""
        process = await self._connection.enter_async_context(
            started(self._calls.connect(self._attempt), self._log, _GRACE_SECONDS, reads_output=True)
        )
        while line := await _line(process):
            if line == READY:
                return True
        await process.wait()
        return False

    async def _has_tunnel(self) -> bool:
        """Open the way back to the coordinator; tell whether it is there."""
        async with started(self._calls.tunnel(self._attempt), self._log, _GRACE_SECONDS) as process:
            return await process.wait() == 0

    async def _version(self) -> str:
        begin, said = size(self._log), b""
        try:
            async with (
                asyncio.timeout(_VERSION_SECONDS),
                started(self._calls.version(), self._log, _GRACE_SECONDS, reads_output=True) as process,
            ):
                while process.stdout is not None and (part := await process.stdout.read(_MOST_SAID)):
                    said = (said + part)[-_MOST_SAID:]
                code = await process.wait()
        except TimeoutError:
            raise LotteryFLError(f"{self.name}: does not say its version within {_VERSION_SECONDS:g} s") from None
        if code:
            why = last_line(self._log, begin)
            raise LotteryFLError(f"{self.name}: `lotteryfl --version` has ended with exit code {code}: {why}")
        return said.decode(errors="replace")

    async def _work(self) -> None:
        begin = size(self._log)
        async with started(self._calls.work(self._attempt), self._log, STOP_SECONDS + _GRACE_SECONDS) as process:
            code = await process.wait()
        if code == _SSH_FAILED or code < 0:
            raise ConnectionGoneError(f"{self.name}: the connection has gone: {last_line(self._log, begin)}")
        if code:
            why = last_line(self._log, begin)
            raise WorkerFailedError(f"{self.name}: its worker has ended with exit code {code}: {why}", code)


async def _line(process: asyncio.subprocess.Process) -> str:
    """Return the next line that a process writes, without its end but never empty; '': it writes no more."""
    if process.stdout is None:
        return ""
    with contextlib.suppress(ValueError):  # a line beyond all bounds is not the one that is waited for
        line = await process.stdout.readline()
        return line.decode(errors="replace").strip() or ("-" if line else "")
    return "-"
