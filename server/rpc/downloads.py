"""What goes out with assignments: made in one piece of work where it is small, and once where many get the same."""

import asyncio
from collections.abc import Iterator

from lotteryfl.common.names import FileName
from lotteryfl.common.tensors.stream import CHUNK_BYTES, Trailer
from lotteryfl.common.wire.framing import Payload
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.rounds.work import Work
from lotteryfl.server.store.rundir import RunDirectory


class ReadyPayload:
    """A payload of which every piece has been made, and the checksum too: any number of streams may share it."""

    is_at_hand = True

    def __init__(self, payload: Payload) -> None:
        self._pieces = tuple(payload)
        self.size = payload.size
        self.trailer: Trailer = payload.trailer

    def __iter__(self) -> Iterator[memoryview]:
        return iter(self._pieces)


class Downloads:
    """The payloads of a run's assignments."""

    def __init__(self, run: RunDirectory) -> None:
        """Set whose they are."""
        self._run = run
        self._dense: tuple[FileName, asyncio.Future[Payload]] | None = None  # the shared model's, as all get it

    async def payload(self, work: Work) -> Payload:
        """Return the payload of an assignment; a thread makes it.

        Raises:
            FileNotFoundError: a round has ended meanwhile.
            OSError: it cannot be read.
        """
        if work.assignment.base_digest or work.is_own_result or work.row.own or work.row.mask:
            return await asyncio.to_thread(self._made, work)
        if self._dense is None or self._dense[0] != work.source or _has_failed(self._dense[1]):
            making = asyncio.ensure_future(asyncio.to_thread(self._made, work))
            self._dense = work.source, making
        payload = await asyncio.shield(self._dense[1])  # who goes away takes it from nobody else
        return payload if isinstance(payload, ReadyPayload) else await asyncio.to_thread(self._made, work)

    def _made(self, work: Work) -> Payload:
        """Make it ready if it takes no memory, as the pieces are the file's own, or little."""
        payload = assignment_payload(self._run, work)
        return ReadyPayload(payload) if payload.is_at_hand or payload.size <= CHUNK_BYTES else payload


def _has_failed(making: asyncio.Future[Payload]) -> bool:
    return making.done() and (making.cancelled() or making.exception() is not None)
