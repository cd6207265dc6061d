"""News of a run from a coordinator elsewhere, asked for as any observer may."""

import asyncio

import grpc

from lotteryfl.common.security.channel import CALL_SECONDS, open_channel, raise_if_refused
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.dashboard.live import Live
from lotteryfl.feed import News
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc

_EVERY = 2.0
"""Seconds between two questions."""


async def follow_coordinator(address: str, security: ChannelSecurity, live: Live) -> None:
    """Ask a coordinator again and again; one that does not answer is asked later.

    Raises:
        LotteryFLError: it refuses to answer who asks.
    """
    with open_channel(address, security) as channel:
        stub = pb_grpc.CoordinatorStub(channel)
        while True:
            try:
                live.tell(await asyncio.to_thread(_ask, stub))
            except grpc.RpcError as error:
                raise_if_refused(error, address, security)
            await asyncio.sleep(_EVERY)


def _ask(stub: pb_grpc.CoordinatorStub) -> News:
    status: pb.RunStatus = stub.GetRun(pb.GetRunRequest(), timeout=CALL_SECONDS)
    fleet: pb.Fleet = stub.GetFleet(pb.GetFleetRequest(), timeout=CALL_SECONDS)
    return News(status, fleet)
