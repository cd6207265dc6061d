"""A coordinator at work: the gRPC server with its standard services, the rounds behind it, its goodbye."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.channel import CALL_SECONDS, SERVER_OPTIONS
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from lotteryfl.server.rounds.conclusion import conclude_round
from lotteryfl.server.rounds.coordinator import Coordinator, Step
from lotteryfl.server.rpc.aborts import ForgottenAborts
from lotteryfl.server.rpc.bell import wait_for
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.rpc.interceptors import Authentication, TensorStreams
from lotteryfl.server.rpc.limiting import Limiting
from lotteryfl.server.rpc.limits import Limits
from lotteryfl.server.rpc.openfiles import allow_more_files
from lotteryfl.server.rpc.service import CoordinatorService
from lotteryfl.server.store.rundir import RunDirectory

_STOP_SECONDS = 2.0

_FEW_CONNECTIONS = 64
"""Where the health service alone is answered."""


class CoordinatorServer:
    """One run behind one address."""

    def __init__(self, run: RunDirectory, show: Callable[[pb.RunStatus], None], limits: Limits | None = None) -> None:
        """Serve a run.

        Args:
            run: whose lock this process holds.
            show: is called with the run's status whenever it may have changed.
            limits: of what callers may take; the default ones, where there are none.
        """
        self._run = run
        self._limits = limits or Limits()
        self._show = show
        self._coordinator = Coordinator(run)
        self._service = CoordinatorService(run, self._coordinator, self._limits)
        self._health = health.aio.HealthServicer()

    @contextlib.asynccontextmanager
    async def listening(self, endpoint: Endpoint) -> AsyncIterator[int]:
        """Answer calls while the block runs; yields the port, which matters when it was 0.

        Raises:
            LotteryFLError: the address cannot be listened at, or not be secured.
        """
        allow_more_files()
        server = self._server(self._limits, Authentication(endpoint.identify()))
        pb_grpc.add_CoordinatorServicer_to_server(self._service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        name = pb.DESCRIPTOR.services_by_name["Coordinator"].full_name
        if endpoint.reflection:
            reflection.enable_server_reflection((name, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        port = _listen(server, endpoint.address, endpoint.credentials())
        servers = [server]
        if endpoint.health:
            servers.append(self._server(replace(self._limits, connections=_FEW_CONNECTIONS)))
            health_pb2_grpc.add_HealthServicer_to_server(self._health, servers[-1])
            _listen(servers[-1], endpoint.health, None)
        for started in servers:
            await started.start()
        for service in ("", name):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        try:
            yield port
        finally:
            await self._health.enter_graceful_shutdown()
            self._service.close()
            await asyncio.gather(*(started.stop(_STOP_SECONDS) for started in servers))

    def _server(self, limits: Limits, *guards: grpc.aio.ServerInterceptor) -> grpc.aio.Server:
        return grpc.aio.server(
            interceptors=(ForgottenAborts(), *guards, Limiting(limits), TensorStreams(limits.header_bytes)),
            options=[*SERVER_OPTIONS, *limits.options()],
            maximum_concurrent_rpcs=limits.calls,
        )

    async def run(self) -> None:
        """Drive the rounds to the run's end, then wait until its workers know of it.

        Raises:
            LotteryFLError: the run failed; the reason is its message.
        """
        try:
            while await self._step():
                pass
        except (OSError, sqlite3.Error) as error:
            raise LotteryFLError(
                f"{self._run.path}: {error}; nothing that was accepted is lost: see to it and start again"
            ) from error
        await self._say_goodbye()
        self._coordinator.raise_if_failed()

    async def take_back_all(self, reason: str) -> None:
        """Give out again what workers had before this start; they are known to be gone."""
        await self._service.call(self._coordinator.take_back_all, reason)

    async def fail(self, reason: str) -> None:
        """End the run, unless it has ended, when no worker is left to be told."""
        await self._service.call(self._coordinator.fail, reason)
        for worker_id in await self._service.call(self._coordinator.alive_workers):
            self._service.departed.add(worker_id)
        self._service.announce()

    async def _step(self) -> bool:
        call, coordinator = self._service.call, self._coordinator
        changed = self._service.changed.listen()
        if self._service.storage_error is not None:
            raise self._service.storage_error
        step = await call(coordinator.advance)
        self._show(await call(coordinator.status))
        if step is Step.WAIT:
            await wait_for(changed, await call(coordinator.seconds_until_check))
        elif step is Step.OFFER:
            self._service.announce()
        elif step is Step.COMMIT:
            results = await call(coordinator.results_to_aggregate)
            model_round = await call(lambda: coordinator.model_round)
            conclusion = await asyncio.to_thread(
                conclude_round, self._run, coordinator.strategy, coordinator.round, results, model_round
            )
            await call(coordinator.commit, conclusion)
            self._service.forget_cut_uploads()
            self._service.announce()
        return step is not Step.ENDED

    async def _say_goodbye(self) -> None:
        """Keep answering until every living worker has been told, but not for ever."""
        self._service.announce()
        deadline = asyncio.get_running_loop().time() + CALL_SECONDS
        while True:
            changed = self._service.changed.listen()
            alive = await self._service.call(self._coordinator.alive_workers)
            untold = any(worker_id not in self._service.departed for worker_id in alive)
            remaining = deadline - asyncio.get_running_loop().time()
            if not untold or remaining <= 0:
                return
            await wait_for(changed, min(remaining, self._run.experiment.round.lease))  # then the silent count as dead


def _listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise LotteryFLError(f"{address}: cannot listen there: the address is in use or not this host's") from error
