"""A port of this machine's loopback that leads to the coordinator, for as long as somebody follows."""

import asyncio
import contextlib
import re
from asyncio import Future, StreamReader
from asyncio.subprocess import PIPE, Process
from typing import cast

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.kubernetes.calls import Target, ended, failure, started

_FORWARDS = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+) ->")
_SECONDS = 30.0
"""In which kubectl has to say where it listens."""
_CHUNK = 1 << 12


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
        self._said = b""

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
        first: Future[bytes] = asyncio.get_running_loop().create_future()
        # Whatever ends this event loop cancels the task, which ends the process.
        self._task = asyncio.create_task(self._kept(process, first))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS):
                await asyncio.shield(first)
        if first.done() and (found := _FORWARDS.match(first.result())):
            self.port = int(found[1])
            return
        await ended(process)
        await self._task  # has heard all that it said
        raise LotteryFLError(failure(command, process.returncode, self._said))

    async def close(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _kept(self, process: Process, first: Future[bytes]) -> None:
        """Read all that a process says, or it would wait for that, until it ends or nobody wants it any more."""
        try:
            out, err = cast(StreamReader, process.stdout), cast(StreamReader, process.stderr)
            await asyncio.gather(_first_line(out, first), self._listen(err))
            await process.wait()
        finally:
            await ended(process)

    async def _listen(self, stream: StreamReader) -> None:
        while said := await stream.read(_CHUNK):
            self._said = said


async def _first_line(stream: StreamReader, first: Future[bytes]) -> None:
    """Hand on the first line, and pass over the others: one for every connection."""
    first.set_result(await stream.readline())
    while await stream.read(_CHUNK):
        pass
