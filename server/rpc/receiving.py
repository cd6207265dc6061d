"""Uploads, from the network into the run directory and their check, over as many streams as they take."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import NoReturn

import grpc

from lotteryfl.common.disk.atomicfile import AtomicFile
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.names import FileName
from lotteryfl.common.tensors.receiver import FileReceiver
from lotteryfl.common.wire.framing import message_size
from lotteryfl.common.wire.payload import max_payload_bytes
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.resultcheck import Arrival, examine
from lotteryfl.server.rpc.context import Context
from lotteryfl.server.rpc.limits import Limits
from lotteryfl.server.rpc.quotas import Shares
from lotteryfl.server.rpc.spooling import Batch, Spool
from lotteryfl.server.store.rundb.rows import AssignmentRow
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import result_file


class CutUploads:
    """What has arrived of uploads whose stream was cut, until their next stream comes or their round is over."""

    def __init__(self, most: int) -> None:
        """Set how many are kept, each an open file: the oldest go first."""
        self._most = most
        self._receivers: dict[tuple[str, str], FileReceiver] = {}

    def keep(self, result: pb.Result, receiver: FileReceiver) -> None:
        """Keep what has arrived of a result, in the place of what an earlier stream of it has brought."""
        if older := self._receivers.pop(_key(result), None):
            older.discard()
        self._receivers[_key(result)] = receiver
        if len(self._receivers) > self._most:
            self._receivers.pop(next(iter(self._receivers))).discard()

    def received(self, worker_id: str, assignment_id: str) -> int:
        """Return how many bytes have arrived of a worker's result."""
        receiver = self._receivers.get((worker_id, assignment_id))
        return 0 if receiver is None else receiver.received

    def take(self, result: pb.Result) -> FileReceiver | None:
        """Return what has arrived of a result, if that is what its stream leaves out; it is forgotten in any case."""
        receiver = self._receivers.pop(_key(result), None)
        if receiver is None or (receiver.received, receiver.size) == (result.payload.offset, result.payload.size):
            return receiver
        receiver.discard()
        return None

    def discard(self) -> None:
        """Forget all."""
        while self._receivers:
            self._receivers.popitem()[1].discard()

    def close(self) -> None:
        """Forget all, and keep no more."""
        self._most = 0
        self.discard()


def _key(result: pb.Result) -> tuple[str, str]:
    return result.worker_id, result.assignment_id


class _EndedError(Exception):
    """A stream is over, and its upload is not."""


class Upload:
    """One call's messages, as `common.wire.framing.deserializer` gives them, and what they weigh."""

    def __init__(self, parts: AsyncIterator[pb.ResultPart | memoryview], context: Context) -> None:
        self._parts = parts
        self._context = context
        self.received = 0
        """Bytes of the messages so far."""
        self.unwanted: Arrival | None = None
        """What came of it when nobody was there any more to be told."""

    async def header(self) -> pb.Result:
        """Return what the first message announces; nothing, where it is not a header."""
        try:
            part = await self._next()
        except PayloadError:
            return pb.Result()
        except _EndedError as ended:
            await self.abort(str(ended))
        return part.result if isinstance(part, pb.ResultPart) else pb.Result()

    async def into(self, spool: Spool) -> list[pb.ResultPart | memoryview]:
        """Give the messages after the first to the spool, in a thread while the next ones arrive.

        Returns:
            The last ones, the trailer among them, for the thread that then checks what is whole: a small upload is
            one piece of work.

        Raises:
            PayloadError: the bytes are not what was announced, or a message has no place here.
            OSError: they cannot be written.
        """
        batch = Batch(spool)
        try:
            while True:
                part = await self._next()
                batch.hold(part)
                if not isinstance(part, memoryview) and part.WhichOneof("part") != "chunk":
                    return await batch.rest()
                if batch.is_full:
                    await batch.write()
        except (asyncio.CancelledError, _EndedError) as cut:
            await batch.keep()
            await batch.end()
            if isinstance(cut, _EndedError):
                await self.abort(str(cut))  # not before: its sender may go on from here at once
            raise
        finally:
            await batch.end()  # whoever discards the spool has it alone

    async def abort(self, reason: str) -> NoReturn:
        """End the call; its sender tries again."""
        await self._context.abort(grpc.StatusCode.ABORTED, f"upload: {reason}")
        raise AssertionError

    async def _next(self) -> pb.ResultPart | memoryview:
        try:
            part = await anext(self._parts)
        except StopAsyncIteration as end:
            raise _EndedError("the stream ended before its trailer") from end
        self.received += message_size(part)
        return part


class Uploads:
    """All uploads of a run's results."""

    def __init__(self, run: RunDirectory, limits: Limits) -> None:
        """Set where they are written, and how many there may be."""
        self._run = run
        self._payload_limit = max_payload_bytes(run.table)
        self._numbers = itertools.count()
        self._cut = CutUploads(limits.cut_uploads)
        self._under_way = Shares("uploads", limits.uploads_per_worker)

    async def receive(self, result: pb.Result, assigned: AssignmentRow, upload: Upload) -> Arrival:
        """Read a result into a file of its own, and check it in a thread.

        Args:
            result: its header.
            assigned: what its worker was told to do.
            upload: what follows the header.

        Raises:
            LimitError: its worker has too many under way.
            OSError: it cannot be written.
        """
        try:
            with self._under_way.one(result.worker_id):
                return await self._received(result, assigned, upload)
        except (PayloadError, FileNotFoundError) as error:
            return Arrival(result, FileName(""), error)

    def received(self, worker_id: str, assignment_id: str) -> int:
        """Return how many bytes have arrived of a worker's result whose upload was cut."""
        return self._cut.received(worker_id, assignment_id)

    def forget_cut(self) -> None:
        """Drop what has arrived of uploads that were cut: their round is over."""
        self._cut.discard()

    def close(self) -> None:
        """Keep nothing of uploads that are cut from now on, as by the end of the server."""
        self._cut.close()

    async def _received(self, result: pb.Result, assigned: AssignmentRow, upload: Upload) -> Arrival:
        """Write an upload to a file of its own; where its stream is cut, the next one goes on from there."""
        receiver = self._cut.take(result)
        if receiver is None and result.payload.offset:
            await upload.abort(f"nothing is here of its first {result.payload.offset} bytes")
        # Two uploads of one result may be under way at once.
        id_ = assigned.standing.id
        file = self._run.path / result_file(id_, next(self._numbers))
        size, limit = result.payload.size, self._payload_limit
        spool = Spool(partial(FileReceiver, file, size, limit, str(id_), "results"), receiver)
        try:
            if size > limit:
                spool.take(())  # refuses it before its bytes come
            last = await upload.into(spool)
            finishing = asyncio.ensure_future(asyncio.to_thread(self._finished, spool, last, result, assigned))
            try:
                return await asyncio.shield(finishing)
            except asyncio.CancelledError:
                await asyncio.wait((finishing,))
                upload.unwanted = None if finishing.exception() else finishing.result()
                raise
        except (PayloadError, OSError):
            spool.discard()
            raise
        except BaseException:
            if spool.receiver is not None and spool.receiver.is_open:
                self._cut.keep(result, spool.receiver)
            raise

    def _finished(
        self, spool: Spool, last: Iterable[pb.ResultPart | memoryview], result: pb.Result, assigned: AssignmentRow
    ) -> Arrival:
        arrivals: list[Arrival] = []

        def look(file: AtomicFile) -> None:
            name = FileName(f"results/{file.path.name}")
            arrivals.append(examine(self._run, result, name, assigned, file.part))

        spool.look = look
        if spool.take(last) is None:
            raise PayloadError(f"{result.assignment_id}: expected the trailer last")
        return arrivals[0]
