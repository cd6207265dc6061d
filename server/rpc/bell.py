"""Wakes everyone who waits for a change, without polling."""

import asyncio


class Bell:
    """Rings for all who listen. To miss nothing: listen, look at the state, then wait on what `listen` gave."""

    def __init__(self) -> None:
        self._next_ring = asyncio.Event()

    def listen(self) -> asyncio.Event:
        """Return an event that is set by the next ring."""
        return self._next_ring

    def ring(self) -> None:
        """Wake everyone who has listened up to now."""
        self._next_ring.set()
        self._next_ring = asyncio.Event()


async def wait_for(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set; False where the time ran out first."""
    try:
        # Not asyncio.wait_for: up to Python 3.11 that forgets a cancellation, such as Ctrl-C, that meets a ring.
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
