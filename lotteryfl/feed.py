"""What a coordinator's process tells the page's, over a pipe: where the run stands, and what every worker is at."""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import NamedTuple

from google.protobuf.message import DecodeError

from lotteryfl.protos import lotteryfl_pb2 as pb

_SIZES = struct.Struct(">II")
_MOST = 16 << 20
"""Bytes of one message; a longer one is none."""


class News(NamedTuple):
    """One moment of a run, by its coordinator's word."""

    status: pb.RunStatus
    fleet: pb.Fleet


def packed(news: News) -> bytes:
    """Return news as they go into the pipe: two sizes, two messages."""
    status, fleet = news.status.SerializeToString(), news.fleet.SerializeToString()
    return _SIZES.pack(len(status), len(fleet)) + status + fleet


async def read_news(pipe: asyncio.StreamReader) -> AsyncIterator[News]:
    """Yield news until the pipe's other end is closed, or says what is none."""
    try:
        while True:
            status, fleet = _SIZES.unpack(await pipe.readexactly(_SIZES.size))
            if status + fleet > _MOST:
                return
            both = await pipe.readexactly(status + fleet)
            yield News(pb.RunStatus.FromString(both[:status]), pb.Fleet.FromString(both[status:]))
    except (asyncio.IncompleteReadError, DecodeError, OSError):
        return
