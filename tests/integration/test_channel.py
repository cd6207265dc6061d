"""The channel options have an effect: unknown names would be ignored without a word."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from conftest import Coordinate, Start, Write

from common.channel import CLIENT_OPTIONS
from protos import lotteryfl_pb2 as pb
from protos import lotteryfl_pb2_grpc as pb_grpc

QUICK = {
    "grpc.keepalive_time_ms": 1_000,
    "grpc.keepalive_timeout_ms": 1_000,
    "grpc.http2.ping_timeout_ms": 1_000,
}


def options(changes: dict[str, int]) -> Sequence[tuple[str, int]]:
    """Return the client's options with other values; none that it does not have."""
    return [(name, changes.get(name, value)) for name, value in CLIENT_OPTIONS]


def test_a_frozen_coordinator_is_noticed(tmp_path: Path, start: Start, write: Write) -> None:
    """Its kernel still acknowledges what we send; gRPC's own default takes over a minute."""
    serve = start("serve", write(), "--listen", "127.0.0.1:0", "--run-dir", "run")
    address = serve.said(r"listening at (\S+)")[1]
    with grpc.insecure_channel(address, options=options(QUICK)) as channel:
        watch = pb_grpc.CoordinatorStub(channel).WatchRun(pb.WatchRunRequest(), timeout=60)
        next(watch)
        serve.send(signal.SIGSTOP)
        frozen = time.monotonic()
        with pytest.raises(grpc.RpcError) as failure:
            next(watch)
        assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - frozen < 10


def test_an_idle_connection_that_pings_often_is_kept(coordinate: Coordinate, write: Write) -> None:
    """By the rules that a server has by default, the third ping would be one too many."""
    server = coordinate(write())
    with grpc.insecure_channel(server.address, options=options({"grpc.keepalive_time_ms": 100})) as channel:
        stub = pb_grpc.CoordinatorStub(channel)
        watch = stub.WatchRun(pb.WatchRunRequest(), timeout=3)
        next(watch)
        with pytest.raises(grpc.RpcError) as failure:
            next(watch)
        assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED, failure.value.details()
