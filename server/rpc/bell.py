"""Wakes everyone who waits for a change, without polling."""

import asyncio
from weakref import WeakValueDictionary


class Bell:
    """Rings for all who listen. To miss nothing: listen, look at the state, then wait on what `listen` gave."""

    def __init__(self) -> None:
        self._next_rings: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()  # for as long as one waits

    def listen(self, who: str = "") -> asyncio.Event:
        """Return an event that is set by the next ring; somebody with a name may also be woken alone."""
        event = self._next_rings.get(who)
        if event is None:
            event = self._next_rings[who] = asyncio.Event()
        return event

    def ring(self) -> None:
        """Wake everyone who has listened up to now."""
        rung, self._next_rings = self._next_rings, WeakValueDictionary()
        for event in list(rung.values()):
            event.set()

    def ring_for(self, who: str) -> None:
        """Wake one of those who have listened up to now."""
        if (event := self._next_rings.pop(who, None)) is not None:
            event.set()


async def wait_for(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set; False where the time ran out first."""
    try:
        # Not asyncio.wait_for: up to Python 3.11 that forgets a cancellation, such as Ctrl-C, that meets a ring.
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
