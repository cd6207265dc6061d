"""A payload's messages, from the run directory to the network."""

import asyncio
from collections.abc import AsyncIterator

from lotteryfl.common.wire.framing import Part, Payload, frames


async def messages(first: Part, payload: Payload, offset: int) -> AsyncIterator[bytes]:
    """Yield the messages of a stream from an offset of its payload on, serialized.

    Those of bytes that are at hand are made right here: handing each to a thread would cost a quarter of the
    stream's speed. Where tensors have to be made first, a thread makes each message while the one before is sent.
    """
    made = frames(first, payload, offset)
    if payload.is_at_hand:
        for message in made:
            yield message
        return
    upcoming = asyncio.ensure_future(asyncio.to_thread(next, made, b""))
    try:
        while message := await upcoming:
            upcoming = asyncio.ensure_future(asyncio.to_thread(next, made, b""))
            yield message
    finally:
        upcoming.cancel()
