"""Downloads in parts: what arrives is the payload, wherever its streams were cut."""

import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lotteryfl.client.download import CannotResumeError, Download
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.receiver import MemoryReceiver
from lotteryfl.protos import lotteryfl_pb2 as pb

CONTENT = bytes(range(256)) * 4


class CutError(Exception):
    """The network's fault."""


def stream(offset: int, messages: int | None = None) -> Iterator[pb.BlobPart | memoryview]:
    """Yield the parts of a stream after its first; it is cut after so many chunks."""
    chunks = [memoryview(CONTENT)[start : start + 100] for start in range(offset, len(CONTENT), 100)]
    yield from chunks[:messages]
    if messages is not None:
        raise CutError
    yield pb.BlobPart(trailer=pb.PayloadTrailer(size=len(CONTENT), crc32=zlib.crc32(CONTENT)))


def take(download: Download[memoryview], offset: int, messages: int | None = None, what: str = "it") -> memoryview:
    header = pb.PayloadHeader(size=len(CONTENT), offset=offset)
    return download.take(what, header, stream(offset, messages), lambda size: MemoryReceiver(size, size, what))


@given(st.lists(st.integers(0, 8), max_size=6))
def test_a_payload_arrives_whole_over_streams_that_are_cut(messages: list[int]) -> None:
    download = Download[memoryview]()
    for count in messages:
        with pytest.raises(CutError):
            take(download, download.received, count)
    assert download.received == min(100 * sum(messages), len(CONTENT))
    assert bytes(take(download, download.received)) == CONTENT
    assert (download.what, download.received) == ("", 0)


def test_a_cut_after_the_trailer_starts_anew() -> None:
    """It has all arrived, and is not there any more: the answer that carried it has failed."""

    def whole_and_cut() -> Iterator[pb.BlobPart | memoryview]:
        yield from stream(0)
        raise CutError

    download = Download[memoryview]()
    with pytest.raises(CutError):
        download.take("it", pb.PayloadHeader(size=len(CONTENT)), whole_and_cut(), lambda s: MemoryReceiver(s, s, "it"))
    assert download.received == 0
    assert bytes(take(download, 0)) == CONTENT


def test_a_stream_from_the_start_forgets_what_was_there() -> None:
    download = Download[memoryview]()
    with pytest.raises(CutError):
        take(download, 0, 3, what="another")
    assert bytes(take(download, 0)) == CONTENT


@pytest.mark.parametrize(("offset", "what"), [(200, "it"), (400, "it"), (300, "another")])
def test_the_rest_of_something_else_is_not_taken(offset: int, what: str) -> None:
    download = Download[memoryview]()
    with pytest.raises(CutError):
        take(download, 0, 3)
    with pytest.raises(CannotResumeError):
        take(download, offset, what=what)
    assert download.received == 0
    assert bytes(take(download, 0)) == CONTENT


def test_what_was_refused_is_forgotten() -> None:
    download = Download[memoryview]()
    header = pb.PayloadHeader(size=len(CONTENT) + 1)
    with pytest.raises(PayloadError, match="bytes received"):
        download.take("it", header, stream(0), lambda size: MemoryReceiver(size, size, "it"))
    assert download.received == 0


def test_a_stream_that_ends_without_its_trailer_is_refused() -> None:
    parts = iter(list(stream(0))[:-1])
    with pytest.raises(PayloadError, match="without a trailer"):
        Download[memoryview]().take(
            "it", pb.PayloadHeader(size=len(CONTENT)), parts, lambda size: MemoryReceiver(size, size, "it")
        )
