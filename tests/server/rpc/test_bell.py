"""Waiting for a change: no ring is missed, and no cancellation."""

import asyncio

import pytest

from lotteryfl.server.rpc.bell import Bell, wait_for


def test_a_ring_between_listening_and_waiting_is_not_missed() -> None:
    async def listen_ring_wait() -> bool:
        bell = Bell()
        heard = bell.listen()
        bell.ring()
        return await wait_for(heard, 10) and not await wait_for(bell.listen(), 0)

    assert asyncio.run(listen_ring_wait())


@pytest.mark.parametrize("turns", range(5))
def test_a_cancellation_that_meets_a_ring_is_not_forgotten(turns: int) -> None:
    """Ctrl-C comes when it likes: here that many turns of the loop after the ring."""

    async def ring_and_cancel() -> None:
        bell = Bell()
        waiting = asyncio.create_task(wait_for(bell.listen(), 10))
        for _ in range(5):
            await asyncio.sleep(0)
        bell.ring()
        for _ in range(turns):
            await asyncio.sleep(0)
        if not waiting.cancel():
            return  # the wait was over
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(ring_and_cancel())
