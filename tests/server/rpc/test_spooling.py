"""A small upload is one piece of work; what is sent and not gone on with is written all the same."""

import asyncio
import errno
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from zlib_ng import zlib_ng

from lotteryfl.common.tensors.receiver import FileReceiver
from lotteryfl.common.tensors.stream import CHUNK_BYTES
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rpc.spooling import Batch, Spool
from tests.support.virtualtime import run_in_virtual_time
from tests.support.waiting import DEADLINE


def spool_of(path: Path, content: bytes) -> Spool:
    return Spool(lambda: FileReceiver(path, len(content), len(content), "upload"), None)


def trailer(content: bytes) -> pb.ResultPart:
    return pb.ResultPart(trailer=pb.PayloadTrailer(size=len(content), crc32=zlib_ng.crc32(content)))


def test_of_a_small_upload_nothing_is_written_before_it_is_whole(tmp_path: Path) -> None:
    content = b"small" * 100
    spool = spool_of(tmp_path / "file", content)

    async def arrive() -> None:
        batch = Batch(spool)
        batch.hold(memoryview(content))
        assert not batch.is_full
        batch.hold(trailer(content))
        rest = await batch.rest()
        assert spool.receiver is None
        assert spool.take(rest) == tmp_path / "file"

    asyncio.run(arrive())
    assert (tmp_path / "file").read_bytes() == content


def test_a_chunk_is_written_while_the_next_one_comes(tmp_path: Path) -> None:
    content = bytes(CHUNK_BYTES) + b"end"

    async def arrive() -> None:
        spool = spool_of(tmp_path / "file", content)
        batch = Batch(spool)
        batch.hold(memoryview(content)[:CHUNK_BYTES])
        assert batch.is_full
        await batch.write()
        batch.hold(memoryview(content)[CHUNK_BYTES:])
        batch.hold(trailer(content))
        spool.take(await batch.rest())

    asyncio.run(arrive())
    assert (tmp_path / "file").read_bytes() == content


def test_many_tiny_messages_are_not_held(tmp_path: Path) -> None:
    async def arrive() -> int:
        batch = Batch(spool_of(tmp_path / "file", bytes(100)))
        held = 0
        while not batch.is_full:
            batch.hold(memoryview(b"\0"))
            held += 1
        await batch.end()
        return held

    assert asyncio.run(arrive()) < 10


def test_what_is_not_gone_on_with_is_written_after_a_moment(tmp_path: Path) -> None:
    spool = spool_of(tmp_path / "file", b"begun and left")

    async def arrive() -> None:
        batch = Batch(spool)
        batch.hold(memoryview(b"begun"))
        await asyncio.sleep(5)
        await batch.end()

    run_in_virtual_time(arrive())
    assert spool.receiver is not None
    assert spool.receiver.received == 5
    spool.discard()


def test_what_was_cut_is_kept(tmp_path: Path) -> None:
    spool = spool_of(tmp_path / "file", b"begun and left")

    async def arrive() -> None:
        batch = Batch(spool)
        batch.hold(memoryview(b"begun"))
        await batch.keep()
        await batch.end()

    asyncio.run(arrive())
    assert spool.receiver is not None
    assert spool.receiver.received == 5
    spool.discard()


class Slow(Spool):
    """Writes the first messages when it is told to."""

    def __init__(self, spool: Spool) -> None:
        super().__init__(spool._opened, None)
        self.may_write = threading.Event()
        self.at_once = 0

    def take(self, parts: Iterable[pb.ResultPart | memoryview]) -> Path | None:
        self.at_once += 1
        assert self.at_once == 1, "two threads write one file"
        try:
            assert self.may_write.wait(DEADLINE)
            return super().take(parts)
        finally:
            self.at_once -= 1


def test_a_stream_that_is_cut_while_a_chunk_is_written_leaves_all_of_it_in_order(tmp_path: Path) -> None:
    chunks = b"A" * CHUNK_BYTES, b"B" * CHUNK_BYTES
    content = b"".join(chunks)
    spool = Slow(spool_of(tmp_path / "file", content))

    async def arrive(batch: Batch) -> None:
        try:
            for chunk in chunks:
                batch.hold(memoryview(chunk))
                await batch.write()
        except asyncio.CancelledError:
            await batch.keep()
            raise
        finally:
            await batch.end()

    async def cut() -> None:
        arriving = asyncio.ensure_future(arrive(Batch(spool)))
        while not spool.at_once:
            await asyncio.sleep(0)
        arriving.cancel()
        await asyncio.sleep(0)
        spool.may_write.set()
        with pytest.raises(asyncio.CancelledError):
            await arriving

    asyncio.run(cut())
    assert spool.take([trailer(content)]) == tmp_path / "file"  # checked against what was received
    assert (tmp_path / "file").read_bytes() == content


def test_nothing_is_written_after_what_could_not_be(tmp_path: Path) -> None:
    def full() -> FileReceiver:
        raise OSError(errno.ENOSPC, "no space left on device")

    async def arrive() -> None:
        batch = Batch(Spool(full, None))
        batch.hold(memoryview(bytes(CHUNK_BYTES)))
        await batch.write()
        batch.hold(memoryview(b"next"))
        with pytest.raises(OSError, match="no space left"):
            await batch.keep()
        await batch.end()

    asyncio.run(arrive())
