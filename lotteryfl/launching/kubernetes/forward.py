"""A port of this machine's loopback that leads to the coordinator, for as long as somebody follows."""

import asyncio
import contextlib
import re
from asyncio.subprocess import PIPE, Process

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.kubernetes.calls import Target, ended, failure, started

_FORWARDS = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+) ->")
_SECONDS = 30.0
"""In which kubectl has to say where it listens."""


class Forward:
    """`kubectl port-forward`, started again whenever it has ended, at the same port."""

    def __init__(self, target: Target, service: str, port: int) -> None:
        """Set what is led to; nothing is started yet.

        Args:
            target: the cluster.
            service: the Service there.
            port: of that.
        """
        self._target = target
        self._to = (f"service/{service}", port)
        self.port = 0
        """Where it listens here; 0: it never has."""
        self._task: asyncio.Task[None] | None = None

    async def ensure(self) -> None:
        """Return once the port is there.

        Raises:
            LotteryFLError: kubectl cannot make it.
        """
        if self._task is not None and not self._task.done():
            return
        service, port = self._to
        command = self._target.kubectl("port-forward", "--address=127.0.0.1", service, f"{self.port or ''}:{port}")
        process = await started(command, stdout=PIPE)
        # Whatever ends this event loop cancels the task, which ends the process.
        self._task = asyncio.create_task(_kept(process))
        try:
            async with asyncio.timeout(_SECONDS):
                line = await process.stdout.readline() if process.stdout else b""
        except TimeoutError:
            line = b""
        if not (found := _FORWARDS.match(line)):
            await self.close()
            said = await process.stderr.read() if process.stderr else b""
            raise LotteryFLError(failure(command, process.returncode, said))
        self.port = int(found[1])

    async def close(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None


async def _kept(process: Process) -> None:
    """Read what a process prints until it ends, and end it when nobody wants it any more."""
    try:
        if process.stderr:
            while await process.stderr.read(1 << 16):
                pass
        await process.wait()
    finally:
        await ended(process)
