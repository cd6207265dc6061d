"""A small upload is one piece of work; what is sent and not gone on with is written all the same."""

import asyncio
from pathlib import Path

from zlib_ng import zlib_ng

from lotteryfl.common.tensors.receiver import FileReceiver
from lotteryfl.common.tensors.stream import CHUNK_BYTES
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rpc.spooling import Batch, Spool
from tests.support.virtualtime import run_in_virtual_time


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
