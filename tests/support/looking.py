"""What tests look at through the contract and in the run directory."""

from collections.abc import Callable, Iterator

import grpc
import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.waiting import DEADLINE


def status(server: CoordinatorThread) -> pb.RunStatus:
    answer: pb.RunStatus = server.stub.GetRun(pb.GetRunRequest(), timeout=DEADLINE)
    return answer


def stored(server: CoordinatorThread) -> list[str]:
    """Return the results' files, of uploads under way too."""
    return sorted(path.name for path in (server.run.path / "results").iterdir())


def fails(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as failure:
        call()
    return failure.value


def fetch(stream: Iterator[pb.BlobPart]) -> bytes:
    header, *chunks, trailer = stream
    content = b"".join(part.chunk for part in chunks)
    assert header.header.size == trailer.trailer.size == header.header.offset + len(content)
    return content
