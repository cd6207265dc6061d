"""What tests look at through the contract and in the run directory."""

import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.coordinatorthread import CoordinatorThread


def status(server: CoordinatorThread) -> pb.RunStatus:
    answer: pb.RunStatus = server.stub.GetRun(pb.GetRunRequest(), timeout=5)
    return answer


def stored(server: CoordinatorThread) -> list[str]:
    """Return the results' files, of uploads under way too."""
    return sorted(path.name for path in (server.run.path / "results").iterdir())


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for what the coordinator does behind a call that is over."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)


def fails(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as failure:
        call()
    return failure.value


def fetch(stream: Iterator[pb.BlobPart]) -> bytes:
    header, *chunks, trailer = stream
    content = b"".join(part.chunk for part in chunks)
    assert header.header.size == trailer.trailer.size == header.header.offset + len(content)
    return content
