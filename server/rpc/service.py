"""The gRPC face of the coordinator: framing, waiting and status codes; it decides nothing."""
# ruff: noqa: ARG002, N802 - the methods' names and parameters are the contract's

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import grpc

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.faults import fault
from lotteryfl.common.security.channel import POLL_SECONDS, PROTOCOL_VERSION
from lotteryfl.common.security.identity import MAX_ID, IdentityError, check_incarnation, check_name
from lotteryfl.common.tensors.receiver import FileReceiver
from lotteryfl.common.text import printable, quoted
from lotteryfl.common.wire.framing import Part, Payload
from lotteryfl.common.wire.payload import max_payload_bytes
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from lotteryfl.server.rounds.coordinator import Coordinator, Work
from lotteryfl.server.rounds.payloads import assignment_payload, check_result
from lotteryfl.server.rounds.recent import Recent
from lotteryfl.server.rounds.workers import AsideError, ReplacedError, UnknownWorkerError
from lotteryfl.server.rpc.bell import Bell, wait_for
from lotteryfl.server.rpc.context import CALLER, Context
from lotteryfl.server.rpc.filestream import FileStream
from lotteryfl.server.rpc.limits import Limits, Shares
from lotteryfl.server.rpc.receiving import CutUploads, Upload
from lotteryfl.server.rpc.sending import messages
from lotteryfl.server.security.access import AccessError, clients_held
from lotteryfl.server.store.database import AssignmentRow
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import result_file

_MOST_REASON = 1000
"""Characters of a worker's reason that are kept."""

P = ParamSpec("P")
T = TypeVar("T")


class CoordinatorService(pb_grpc.CoordinatorServicer):
    """Serves one run. The coordinator works in one thread of its own; files are read in others."""

    def __init__(self, run: RunDirectory, coordinator: Coordinator, limits: Limits) -> None:
        self._run = run
        self._coordinator = coordinator
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="coordinator")
        self._payload_limit = max_payload_bytes(run.table)
        self._uploads = itertools.count()
        self._cut = CutUploads(limits.cut_uploads)
        self._under_way = Shares("uploads", limits.uploads_per_worker)
        self.work = Bell()
        """Rings when there may be new work, or the run has ended: for the workers that wait."""
        self.changed = Bell()
        """Rings after every change of the run's status: for the rounds and for observers."""
        self.storage_error: OSError | sqlite3.Error | None = None
        """Why the run directory cannot be written, when that has been met."""
        self.departed = Recent(limits.calls)
        """The workers that leave: they were told that the run has ended, or handed their work back."""

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of the coordinator's functions in its thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))

    def forget_cut_uploads(self) -> None:
        """Drop what has arrived of uploads that were cut: their round is over."""
        self._cut.discard()

    def close(self) -> None:
        """Keep nothing of uploads that are cut from now on, as by the end of the server."""
        self._cut.close()

    def announce(self) -> None:
        """Wake everyone: there may be new work, or the run has ended."""
        self.work.ring()
        self.changed.ring()

    # -- workers

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterReply:
        """Answer a worker that announces itself."""
        if request.protocol != PROTOCOL_VERSION:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the worker speaks protocol {request.protocol}, the coordinator {PROTOCOL_VERSION}: "
                "install the same version of lotteryfl on both",
            )
        run_id = await self.call(lambda: self._run.run_id)
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
            worker_id = await self.call(self._coordinator.register, request.name, request.incarnation, held)
        except ReplacedError:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"a worker named {request.name!r} was started after this one: every worker needs its own --name",
            )
        except AsideError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        self.announce()  # an older incarnation's work is given out again
        return pb.RegisterReply(
            worker_id=worker_id,
            lease_seconds=self._run.experiment.round.lease,
            experiment_json=self._run.experiment_for_workers(),
            table_json=self._run.table.to_json(),
            initial_digest=await self.call(lambda: self._run.initial_digest),
            run_id=run_id,
        )

    async def FetchAssignment(
        self, request: pb.FetchAssignmentRequest, context: Context
    ) -> AsyncIterator[pb.AssignmentPart]:
        """Hold the poll until there is work, then send it with its payload."""
        self.departed.discard(request.worker_id)
        work = await self._wait_for_work(request, context)
        if work is None:
            yield pb.AssignmentPart(none=self._no_work(request.worker_id))
            return
        self.changed.ring()
        try:
            async with self._stopping_if_disk_fails(context):
                payload = await asyncio.to_thread(assignment_payload, self._run, work)
        except FileNotFoundError:
            await context.abort(grpc.StatusCode.ABORTED, "the round has just ended: ask again")
        goes_on = request.assignment_id == work.assignment.assignment_id and request.offset <= payload.size
        offset = request.offset if goes_on else 0
        work.assignment.payload.CopyFrom(pb.PayloadHeader(size=payload.size, offset=offset))
        first = pb.AssignmentPart(assignment=work.assignment)
        async for message in self._send(first, payload, offset, work.assignment.assignment_id, context):
            yield message

    async def SubmitResult(self, request_iterator: AsyncIterator[Any], context: Context) -> pb.SubmitReply:
        """Read a result into the run directory, check it, count it; only then say so."""
        upload = Upload(request_iterator, context)
        result = await upload.header()
        assigned = await self.call(self._coordinator.wanted, result.worker_id, result.assignment_id)
        if isinstance(assigned, pb.SubmitReply):
            return assigned
        if result.HasField("failure"):
            return await self._take_failure(result)
        try:
            async with self._stopping_if_disk_fails(context):
                reply = await self._take_result(result, assigned, upload)
        finally:
            self.changed.ring()  # also where it was counted, and nobody is there any more to be told
        if reply.verdict != pb.SubmitReply.ACCEPTED:
            self.announce()
        fault("ack-sending")
        return reply

    async def FindUpload(self, request: pb.FindUploadRequest, context: Context) -> pb.FindUploadReply:
        """Say how much has arrived of an upload that was cut."""
        return pb.FindUploadReply(received=self._cut.received(request.worker_id, request.assignment_id))

    async def _take_result(self, result: pb.Result, assigned: AssignmentRow, upload: Upload) -> pb.SubmitReply:
        coordinator, file = self._coordinator, None
        try:
            with self._under_way.one(result.worker_id):
                file = await self._spool(result, assigned, upload)
            received = await asyncio.to_thread(check_result, self._run, result, f"results/{file.name}", assigned)
        except PayloadError as error:
            reply = await self.call(coordinator.refuse, result.worker_id, result.assignment_id, str(error))
        except FileNotFoundError as error:  # the round has ended meanwhile, without this result
            await self.call(coordinator.release, result.worker_id, result.assignment_id, str(error))
            reply = await self.call(coordinator.unwanted, result.worker_id, result.assignment_id)
        else:
            reply = await self.call(self._coordinator.record, result.worker_id, received)
        finally:
            await self.call(self._coordinator.count_bytes, result.assignment_id, up=upload.received)
        if file is not None and reply.verdict != pb.SubmitReply.ACCEPTED:
            file.unlink(missing_ok=True)
        return reply

    async def _spool(self, result: pb.Result, assigned: AssignmentRow, upload: Upload) -> Path:
        """Write an upload to a file of its own; where its stream is cut, the next one goes on from there."""
        receiver = self._cut.take(result)
        if receiver is None:
            if result.payload.offset:
                await upload.abort(f"nothing is here of its first {result.payload.offset} bytes")
            # Two uploads of one result may be under way at once.
            id_ = assigned.standing.id
            file = self._run.path / result_file(id_, next(self._uploads))
            size, limit = result.payload.size, self._payload_limit
            receiver = await asyncio.to_thread(FileReceiver, file, size, limit, str(id_), "results")
        try:
            await upload.into(receiver)
        except (PayloadError, OSError):
            receiver.discard()
            raise
        except BaseException:
            self._cut.keep(result, receiver)
            raise
        return receiver.path

    async def _take_failure(self, result: pb.Result) -> pb.SubmitReply:
        """Give the work out again; where callers need not show who they are, all are one, and its word ends the run."""
        reason = printable(result.failure.reason[:_MOST_REASON])
        if result.failure.hopeless and CALLER.get() is None:
            await self.call(self._coordinator.fail, reason)
        else:
            await self.call(self._coordinator.release, result.worker_id, result.assignment_id, reason)
        self.announce()
        return pb.SubmitReply(verdict=pb.SubmitReply.ACCEPTED)

    async def Leave(self, request: pb.LeaveRequest, context: Context) -> pb.LeaveReply:
        """Take back what a worker holds that leaves before the run has ended."""
        reason = printable(request.reason[:_MOST_REASON])
        if await self.call(self._coordinator.leave, request.worker_id, reason, told_to_stop=request.told_to_stop):
            self.departed.add(request.worker_id)
            self.announce()
        return pb.LeaveReply()

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatReply:
        """Renew leases and take note of progress."""
        await self._check_entries("progress", len(request.progress), context)
        cancel = await self._known(context, self._coordinator.heartbeat, request.worker_id, list(request.progress))
        self.changed.ring()
        return pb.HeartbeatReply(cancel=cancel)

    async def FetchBlob(self, request: pb.FetchBlobRequest, context: Context) -> AsyncIterator[pb.BlobPart]:
        """Send content by digest, from an offset on."""
        path = await self.call(self._run.blob_path, request.digest)
        if path is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no content with digest {quoted(request.digest)}")
        async for message in self._send_file(path, request.offset, request.assignment_id, context):
            yield message

    # -- observers

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.RunStatus:
        """Say where the run stands."""
        return await self.call(self._coordinator.status)

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.RunStatus]:
        """Say where the run stands now and after every change, until it has ended."""
        while True:
            changed = self.changed.listen()
            status = await self.call(self._coordinator.status)
            yield status
            if status.state != pb.RunStatus.RUNNING:
                return
            await wait_for(changed, None)

    async def FetchModel(self, request: pb.FetchModelRequest, context: Context) -> AsyncIterator[pb.BlobPart]:
        """Send the global model of the last committed round."""
        model_round = await self.call(lambda: self._coordinator.model_round)
        async for message in self._send_file(self._run.model_path(model_round), 0, "", context):
            yield message

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
        now = asyncio.get_running_loop().time
        deadline = now() + min(POLL_SECONDS, request.wait_seconds)  # in this order NaN counts for nothing
        while True:
            rung = self.work.listen()
            async with self._stopping_if_disk_fails(context):
                work = await self._known(context, self._coordinator.lease, request.worker_id)
            if work is not None or self._coordinator.state != "running" or now() >= deadline:
                return work
            await wait_for(rung, deadline - now())

    @contextlib.asynccontextmanager
    async def _stopping_if_disk_fails(self, context: Context) -> AsyncIterator[None]:
        """Have the coordinator stop when its disk is full or fails; the caller comes again when it is back."""
        try:
            yield
        except FileNotFoundError:
            raise  # a round has ended meanwhile
        except (OSError, sqlite3.Error) as error:
            self.storage_error = error
            self.changed.ring()
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"the coordinator stops: {error}")

    def _no_work(self, worker_id: str) -> pb.NoWork:
        state = self._coordinator.state
        if state != "running":
            self.departed.add(worker_id)
            self.changed.ring()
        return pb.NoWork(finished=state == "finished", failed=state == "failed", reason=self._coordinator.reason)

    async def _known(self, context: Context, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self.call(function, *args, **kwargs)
        except UnknownWorkerError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"worker {printable(str(error)[:MAX_ID])}: register first")
            raise
        except AsideError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            raise

    async def _send_file(
        self, path: Path, offset: int, assignment_id: str, context: Context
    ) -> AsyncIterator[pb.BlobPart]:
        try:
            payload = FileStream(path)
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
            await self.call(self._coordinator.count_bytes, assignment_id, down=sent)
