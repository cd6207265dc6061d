"""The gRPC face of the coordinator: framing, waiting and status codes; it decides nothing."""
# ruff: noqa: ARG002, N802 - the methods' names and parameters are the contract's

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from importlib.metadata import version
from typing import Any, ParamSpec, TypeVar

import grpc

from lotteryfl.common.faults import fault
from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.channel import (
    POLL_SECONDS,
    PROTOCOL_VERSION,
    TOLD_PROTOCOL,
    TOLD_TIME,
    TOLD_VERSION,
)
from lotteryfl.common.security.identity import MAX_ID, IdentityError, check_incarnation, check_name
from lotteryfl.common.telemetry.tracing import to_send
from lotteryfl.common.text import brief, printable, quoted
from lotteryfl.common.wire.framing import Part, Payload
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from lotteryfl.server.rounds.codeversion import local_code, task_version
from lotteryfl.server.rounds.machine import machine_of
from lotteryfl.server.rounds.told.load import load_of
from lotteryfl.server.rounds.told.past import events_after, rounds_after
from lotteryfl.server.rounds.work import Work
from lotteryfl.server.rounds.workers import AsideError, ReplacedError, UnknownWorkerError
from lotteryfl.server.rpc.bell import wait_for
from lotteryfl.server.rpc.context import CALLER, Context, join_trace
from lotteryfl.server.rpc.downloads import Downloads
from lotteryfl.server.rpc.filestream import FileStream, model_stream
from lotteryfl.server.rpc.receiving import Upload, Uploads
from lotteryfl.server.rpc.sending import messages
from lotteryfl.server.rpc.served import LINGER_SECONDS, ServedRun, StorageError
from lotteryfl.server.rpc.steered import steer
from lotteryfl.server.security.access import AccessError, clients_held
from lotteryfl.server.store.rundb.rows import AssignmentRow

P = ParamSpec("P")
T = TypeVar("T")

_VERSION = version("lotteryfl")

_PAUSE, _LONGEST_PAUSE = 5.0, 1.0
"""For how many times as long as a status took nothing is done for who watches: many workers make it long. At most for
so many seconds: who watches is to be told of the end."""


class CoordinatorService(pb_grpc.CoordinatorServicer):
    """Answers the calls to one run."""

    def __init__(self, served: ServedRun, uploads: Uploads) -> None:
        """Set what is served, and where results go."""
        self._served = served
        self._call = served.call
        self._run = served.run
        self._coordinator = served.coordinator
        self._uploads = uploads
        self._downloads = Downloads(served.run)

    # -- workers

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterReply:
        """Answer a worker that announces itself."""
        if request.protocol != PROTOCOL_VERSION:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the worker speaks protocol {request.protocol}, the coordinator {PROTOCOL_VERSION}: "
                "install the same version of lotteryfl on both",
            )
        run_id = await self._call(lambda: self._run.run_id)
        if request.run_id not in ("", run_id):
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                "another run is here now than the one that this worker works for: start the worker anew",
            )
        await self._check_names(request, context)
        clients, most = self._run.experiment.clients, max(request.clients.clients, default=0)
        if most >= clients:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"client {most}: the experiment's clients are 0 to {clients - 1}",
            )
        await self._check_entries("clients", len(request.clients.clients), context)
        held: Collection[int] | None = set(request.clients.clients) if request.HasField("clients") else None
        try:
            held = clients_held(self._run.experiment.access, CALLER.get(), held)
        except AccessError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        try:
            machine = machine_of(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        try:
            name, incarnation = request.name, request.incarnation
            worker_id = await self._call(self._coordinator.register, name, incarnation, held, machine)
        except ReplacedError:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"a worker named {request.name!r} was started after this one: every worker needs its own --name",
            )
        except AsideError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        self._served.announce()  # an older incarnation's work is given out again
        return pb.RegisterReply(
            worker_id=worker_id,
            lease_seconds=self._run.experiment.round.lease,
            experiment_json=self._run.experiment_for_workers(),
            table_json=self._run.model_table.to_json(),
            initial_digest=await self._call(lambda: self._run.initial_digest),
            run_id=run_id,
            task_version_json=await self._call(lambda: task_version(self._run).to_json()),
            knows_frozen=self._run.knows_frozen,
            leases=self._run.experiment.round.leases,
            local=await self._call(lambda: local_code(self._run, self._coordinator.strategy)),
        )

    async def FetchAssignment(
        self, request: pb.FetchAssignmentRequest, context: Context
    ) -> AsyncIterator[pb.AssignmentPart]:
        """Hold the poll until there is work, then send it with its payload."""
        self._served.departed.discard(request.worker_id)
        work = await self._wait_for_work(request, context)
        if work is None:
            yield pb.AssignmentPart(none=self._no_work(request.worker_id))
            return
        self._served.news.ring()
        if trace := to_send(self._coordinator.traces.of(work.assignment.assignment_id).parent):
            await context.send_initial_metadata(trace)
        try:
            async with self._stopping_if_disk_fails(context):
                payload = await self._downloads.payload(work)
        except FileNotFoundError:
            await context.abort(grpc.StatusCode.ABORTED, "the round has just ended: ask again")
        goes_on = request.assignment_id == work.assignment.assignment_id and request.offset <= payload.size
        offset = request.offset if goes_on else 0
        work.assignment.payload.CopyFrom(pb.PayloadHeader(size=payload.size, offset=offset))
        first = pb.AssignmentPart(assignment=work.assignment)
        async for message in self._send(first, payload, offset, work.assignment.assignment_id, context):
            yield message
        self._served.post(self._coordinator.arrived, work.assignment.assignment_id)
        self._served.arrived.ring()

    async def SubmitResult(self, request_iterator: AsyncIterator[Any], context: Context) -> pb.SubmitReply:
        """Read a result into the run directory, check it, count it; only then say so."""
        upload = Upload(request_iterator, context)
        result = await upload.header()
        join_trace(self._coordinator.traces.of(result.assignment_id), context)
        assigned = await self._call(self._coordinator.wanted, WorkerId(result.worker_id), result.assignment_id)
        if isinstance(assigned, pb.SubmitReply):
            return assigned
        if result.HasField("failure"):
            return await self._take_failure(result)
        try:
            async with self._stopping_if_disk_fails(context):
                reply = await self._take_result(result, assigned, upload)
        finally:
            self._served.advance()  # also where it was counted, and nobody is there any more to be told
        if reply.verdict == pb.SubmitReply.ACCEPTED:
            self._served.work.ring_for(result.worker_id)  # it may be for it now what was not for one with work ahead
        else:
            self._served.announce()
        fault("ack-sending")
        return reply

    async def FindUpload(self, request: pb.FindUploadRequest, context: Context) -> pb.FindUploadReply:
        """Say how much has arrived of an upload that was cut."""
        return pb.FindUploadReply(received=self._uploads.received(request.worker_id, request.assignment_id))

    async def _take_result(self, result: pb.Result, assigned: AssignmentRow, upload: Upload) -> pb.SubmitReply:
        try:
            arrival = await self._uploads.receive(result, assigned, upload)
        finally:  # before it counts: its round may be over then, and what it has sent is told
            self._served.post(self._coordinator.count_bytes, result.assignment_id, up=upload.received)
            if upload.unwanted is not None:
                self._served.post(upload.unwanted.settle_files, self._run, counts=False)
        return await asyncio.shield(self._call(self._coordinator.settle, arrival))  # its files are there

    async def _take_failure(self, result: pb.Result) -> pb.SubmitReply:
        """Give the work out again: a client's trouble ends no run, whatever its worker makes of it."""
        reason = printable(brief(result.failure.reason))
        await self._call(self._coordinator.release, WorkerId(result.worker_id), result.assignment_id, reason)
        self._served.announce()
        return pb.SubmitReply(verdict=pb.SubmitReply.ACCEPTED)

    async def Leave(self, request: pb.LeaveRequest, context: Context) -> pb.LeaveReply:
        """Take back what a worker holds that leaves before the run has ended."""
        reason = printable(brief(request.reason))
        await self._served.leave(WorkerId(request.worker_id), reason, told_to_stop=request.told_to_stop)
        return pb.LeaveReply()

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatReply:
        """Renew leases and take note of progress."""
        await self._check_entries("progress", len(request.progress), context)
        try:
            load = load_of(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        worker_id, progress = WorkerId(request.worker_id), list(request.progress)
        cancel = await self._known(context, self._coordinator.heartbeat, worker_id, progress, load)
        self._served.news.ring()
        return pb.HeartbeatReply(cancel=cancel)

    async def FetchBlob(self, request: pb.FetchBlobRequest, context: Context) -> AsyncIterator[pb.BlobPart]:
        """Send content by digest, from an offset on."""
        path = await self._call(self._run.blob_path, request.digest)
        if path is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no content with digest {quoted(request.digest)}")
        content = partial(FileStream, path)
        async for message in self._send_content(content, request.offset, request.assignment_id, context):
            yield message

    # -- observers

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.RunStatus:
        """Say where the run stands, and in the metadata what answers."""
        told = {
            TOLD_PROTOCOL: str(PROTOCOL_VERSION),
            TOLD_VERSION: _VERSION,
            TOLD_TIME: f"{time.time():.3f}",
        }
        context.set_trailing_metadata(tuple(told.items()))
        return await self._call(self._coordinator.status)

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.RunStatus]:
        """Say where the run stands now and after every change, until it has ended."""
        self._served.watchers += request.lingers
        try:
            while True:
                news = self._served.news.listen()
                begin = time.monotonic()
                status = await self._call(self._coordinator.status)
                taken = time.monotonic() - begin
                yield status
                if status.state != pb.RunStatus.RUNNING:
                    await asyncio.sleep(LINGER_SECONDS if request.lingers else 0.0)
                    return
                await wait_for(news, None)
                await asyncio.sleep(min(_PAUSE * taken, _LONGEST_PAUSE))
        finally:
            self._served.watchers -= request.lingers
            self._served.changed.ring()

    async def GetFleet(self, request: pb.GetFleetRequest, context: Context) -> pb.Fleet:
        """Say what every worker is at."""
        return await self._call(self._coordinator.fleet)

    async def GetClients(self, request: pb.GetClientsRequest, context: Context) -> pb.Clients:
        """Say how single clients do."""
        return await self._call(self._coordinator.clients, request.first, request.most)

    async def GetRounds(self, request: pb.GetRoundsRequest, context: Context) -> pb.Rounds:
        """Say what rounds came to."""
        return await self._call(rounds_after, self._run.database, request.after)

    async def GetEvents(self, request: pb.GetEventsRequest, context: Context) -> pb.Events:
        """Say what has happened."""
        return await self._call(events_after, self._run.database, request.after, request.most)

    async def FetchModel(self, request: pb.FetchModelRequest, context: Context) -> AsyncIterator[pb.BlobPart]:
        """Send the global model of the last committed round."""
        model_round = await self._call(lambda: self._coordinator.model_round)
        async for message in self._send_content(partial(model_stream, self._run, model_round), 0, "", context):
            yield message

    # -- operators

    async def SteerRun(self, request: pb.SteerRunRequest, context: Context) -> pb.SteerRunReply:
        """Do what an operator says of the run."""
        async with self._stopping_if_disk_fails(context):
            return await steer(self._served, request, context)

    # -- helpers

    async def _check_names(self, request: pb.RegisterRequest, context: Context) -> None:
        """End the call where a worker's id, NAME:INCARNATION, could be read in another way, or not be printed."""
        try:
            check_name(request.name)
            check_incarnation(request.incarnation)
        except IdentityError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def _check_entries(self, name: str, count: int, context: Context) -> None:
        """End the call where a list is longer than there are clients."""
        if count > (clients := self._run.experiment.clients):
            reason = f"{name} has {count} entries: the experiment has {clients} clients"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)

    async def _wait_for_work(self, request: pb.FetchAssignmentRequest, context: Context) -> Work | None:
        await self._check_entries("held", len(request.held), context)
        now, worker_id, has = asyncio.get_running_loop().time, WorkerId(request.worker_id), frozenset(request.held)
        deadline = now() + min(POLL_SECONDS, request.wait_seconds)  # in this order NaN counts for nothing
        while True:
            rung = self._served.work.listen(worker_id)
            async with self._stopping_if_disk_fails(context):
                work = await self._known(context, self._coordinator.lease, worker_id, has, travels=True)
            if work is not None or self._coordinator.is_over or now() >= deadline:
                return work
            await wait_for(rung, deadline - now())

    @contextlib.asynccontextmanager
    async def _stopping_if_disk_fails(self, context: Context) -> AsyncIterator[None]:
        """Have the coordinator stop when its disk is full or fails; the caller comes again when it is back."""
        try:
            with self._served.stopping_if_disk_fails():
                yield
        except StorageError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"the coordinator stops: {error}")

    def _no_work(self, worker_id: str) -> pb.NoWork:
        state, is_over = self._coordinator.state, self._coordinator.is_over
        if is_over:
            self._served.departed.add(worker_id)
            self._served.advance()
        finished, failed = is_over and state != "failed", state == "failed"
        return pb.NoWork(finished=finished, failed=failed, reason=self._coordinator.reason)

    async def _known(self, context: Context, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._call(function, *args, **kwargs)
        except UnknownWorkerError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"worker {printable(str(error)[:MAX_ID])}: register first")
            raise
        except AsideError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            raise

    async def _send_content(
        self, opening: Callable[[], Payload], offset: int, assignment_id: str, context: Context
    ) -> AsyncIterator[pb.BlobPart]:
        try:
            payload = opening()
            if offset > payload.size:
                what = f"offset {offset}: the content ends at {payload.size}"
                await context.abort(grpc.StatusCode.OUT_OF_RANGE, what)
            first = pb.BlobPart(header=pb.PayloadHeader(size=payload.size, offset=offset))
            async for message in self._send(first, payload, offset, assignment_id, context):
                yield message
        except FileNotFoundError:
            await context.abort(grpc.StatusCode.ABORTED, "a round has just ended: ask again")

    async def _send(
        self, first: Part, payload: Payload, offset: int, assignment_id: str, context: Context
    ) -> AsyncIterator[Any]:
        sent = 0
        try:
            async with self._stopping_if_disk_fails(context):
                async for message in messages(first, payload, offset):
                    sent += len(message)
                    yield message
        finally:
            self._served.post(self._coordinator.count_bytes, assignment_id, down=sent)
