"""A coordinator behind a real socket, in a thread of the test's own process."""

import asyncio
import threading
from types import TracebackType
from typing import Self

# What a channel imports late comes before there is a thread: coverage takes what is being imported out of sys.modules
# whenever another thread has changed sys.path, as loading a task does.
import grpc._channel  # noqa: F401

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.channel import open_channel
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.rpc.limits import Limits
from lotteryfl.server.rpc.server import CoordinatorServer
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import silent
from tests.support.waiting import DEADLINE


class CoordinatorThread:
    """Serves a run until it ends or the block is left."""

    def __init__(
        self,
        run: RunDirectory,
        endpoint: Endpoint | None = None,
        security: ChannelSecurity | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Set where the coordinator listens, how `stub` and `channel` call it, and what it takes."""
        self.run = run
        self._limits = limits
        self._security = security or ChannelSecurity()
        self._endpoint = endpoint or Endpoint("127.0.0.1:0")
        self.error = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    @property
    def task(self) -> str:
        """File of the run's task."""
        return self.run.experiment.task.name

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task
        self._cancel = task.cancel
        server = CoordinatorServer(self.run, silent, self._limits)
        try:
            async with server.listening(self._endpoint) as port:
                self.address = f"127.0.0.1:{port}"
                self._ready.set()
                await server.rounds.run()
        except asyncio.CancelledError:
            pass
        except LotteryFLError as error:
            self.error = str(error)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(DEADLINE)
        self.channel = open_channel(self.address, self._security)
        self.stub = pb_grpc.CoordinatorStub(self.channel)
        return self

    def ended(self, seconds: float = DEADLINE) -> str:
        """Wait for the run's end; return why it failed, if it did."""
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        return self.error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join(DEADLINE)
