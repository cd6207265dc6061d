"""Listens: the gRPC server of a run with its standard services."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lotteryfl.common.names import WorkerId
from lotteryfl.common.prometheus.exposing import exposed
from lotteryfl.common.security.address import cannot_listen
from lotteryfl.common.security.channel import SERVER_OPTIONS
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from lotteryfl.server.rpc.aborts import ForgottenAborts
from lotteryfl.server.rpc.callers.admitted import Admitted
from lotteryfl.server.rpc.callers.authentication import Authentication
from lotteryfl.server.rpc.callers.renewal import RenewedCertificate
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.rpc.limiting import Limiting
from lotteryfl.server.rpc.limits import Limits
from lotteryfl.server.rpc.openfiles import allow_more_files
from lotteryfl.server.rpc.receiving import Uploads
from lotteryfl.server.rpc.roundloop import RoundLoop
from lotteryfl.server.rpc.served import ServedRun, StorageError
from lotteryfl.server.rpc.service import CoordinatorService
from lotteryfl.server.rpc.tensorstreams import TensorStreams
from lotteryfl.server.store.rundir import RunDirectory

_STOP_SECONDS = 2.0

_FEW_CONNECTIONS = 64
"""Connections at once where the health service alone is answered."""


class CoordinatorServer:
    """One run behind one address."""

    def __init__(self, run: RunDirectory, show: Callable[[pb.RunStatus], None], limits: Limits | None = None) -> None:
        """Serve a run.

        Args:
            run: whose lock this process holds.
            show: is called with the run's status whenever it may have changed.
            limits: of what callers may take; the default ones, where there are none.
        """
        self._limits = limits or Limits()
        served = ServedRun(run, most_departed=self._limits.calls)
        self._uploads = Uploads(run, self._limits)
        self._served = served
        self._service = CoordinatorService(served, self._uploads)
        self.rounds = RoundLoop(served, self._uploads, show)
        """What drives the run."""
        self._certificate: RenewedCertificate | None = None
        self._health = health.aio.HealthServicer()
        self.metrics = ""
        """Where Prometheus reads how the run goes, while it may; empty: nowhere."""

    async def fleet(self) -> pb.Fleet:
        """Return what every worker is at."""
        return await self._served.call(self._served.coordinator.fleet)

    @contextlib.asynccontextmanager
    async def listening(self, endpoint: Endpoint) -> AsyncIterator[int]:
        """Answer calls while the block runs; yields the port, which matters when it was 0.

        Raises:
            LotteryFLError: the address cannot be listened at, or not be secured.
        """
        allow_more_files()
        ways = endpoint.identify()
        admitted = Admitted(ways) if ways else None
        server = self._server(self._limits, Authentication(admitted))
        pb_grpc.add_CoordinatorServicer_to_server(self._service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        name = pb.DESCRIPTOR.services_by_name["Coordinator"].full_name
        if endpoint.reflection:
            reflection.enable_server_reflection((name, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        self._certificate = endpoint.credentials()
        port = _listen(server, endpoint.address, getattr(self._certificate, "credentials", None))
        servers = [server]
        if endpoint.health:
            servers.append(self._server(replace(self._limits, connections=_FEW_CONNECTIONS)))
            health_pb2_grpc.add_HealthServicer_to_server(self._health, servers[-1])
            _listen(servers[-1], endpoint.health, None)
        for started in servers:
            await started.start()
        for service in ("", name):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        watching = asyncio.create_task(admitted.watch(self._dismiss)) if admitted else None
        try:
            with self._exposed(endpoint.metrics):
                yield port
        finally:
            if watching is not None:
                watching.cancel()
            await self._health.enter_graceful_shutdown()
            self._uploads.close()
            await asyncio.gather(*(started.stop(_STOP_SECONDS) for started in servers))
            self._served.close()

    @contextlib.contextmanager
    def _exposed(self, address: str) -> Iterator[None]:
        """Have Prometheus answered while the block runs, where there is an address for it."""
        if not address:
            yield
            return
        from lotteryfl.server.prometheus.collector import CoordinatorCollector

        served = self._served
        collector = CoordinatorCollector(served.run, served.coordinator, self.rounds.stages, served.answer)
        with exposed(address, collector) as self.metrics:
            yield

    async def _dismiss(self, worker_id: WorkerId) -> None:
        """Take back what a worker holds whose certificate or token does not count any more."""
        with contextlib.suppress(StorageError), self._served.stopping_if_disk_fails():
            await self._served.leave(worker_id, "its certificate or token was revoked", told_to_stop=True)

    def _server(self, limits: Limits, *guards: grpc.aio.ServerInterceptor) -> grpc.aio.Server:
        return grpc.aio.server(
            interceptors=(ForgottenAborts(), *guards, Limiting(limits), TensorStreams(limits.header_bytes)),
            options=[*SERVER_OPTIONS, *limits.options()],
            maximum_concurrent_rpcs=limits.calls,
        )


def _listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise cannot_listen(address) from error
