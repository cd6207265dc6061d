"""Who has been let in, and by what: whose certificate or token is revoked meanwhile is let out again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import Identity, IdentityError
from lotteryfl.server.rounds.workers import MOST_WORKERS
from lotteryfl.server.rpc.context import Context

_LOOK_SECONDS = 1.0
"""How often is looked whether anything was revoked, for the sake of who does not call just now."""


class Way:
    """A way in which callers show who they are."""

    def __init__(
        self,
        shown: Callable[[Context], Hashable],
        identify: Callable[[Any], Identity],
        version: Callable[[], Hashable],
    ) -> None:
        """Set how it goes.

        Args:
            shown: returns what a call shows, or raises IdentityError.
            identify: returns whom that shows, or raises IdentityError.
            version: returns what changes when something else may be known of that; None while nothing is.
        """
        self.shown = shown
        self.identify = identify
        self.version = version


Shown = tuple[Hashable, ...]
"""What a caller has shown, in each of the ways that are asked for."""


class Admitted:
    """Calls under way and workers, by what they have shown."""

    def __init__(self, ways: tuple[Way, ...]) -> None:
        """Set how callers show who they are: in all of these ways, each time as the same."""
        self._ways = ways
        self._versions = self._now()
        self._calls: dict[asyncio.Timeout, Shown] = {}
        self._workers: dict[WorkerId, Shown] = {}  # who was heard of last is the last one

    def shown(self, context: Context) -> Shown:
        """Return what a call shows.

        Raises:
            IdentityError: not what is asked for.
        """
        return tuple(way.shown(context) for way in self._ways)

    def identify(self, shown: Shown) -> Identity:
        """Return whom that shows.

        Raises:
            IdentityError: nobody, not any more, or more than one.
        """
        found = {way.identify(each) for way, each in zip(self._ways, shown, strict=True)}
        if len(found) > 1:
            raise IdentityError("certificate and token are not of the same peer")
        return found.pop()

    @asynccontextmanager
    async def call(self, shown: Shown) -> AsyncIterator[None]:
        """Let the block run as long as what was shown holds.

        Raises:
            IdentityError: it does not hold any more.
        """
        scope = asyncio.timeout(None)
        self._calls[scope] = shown
        try:
            async with scope:
                yield
        except TimeoutError:
            if scope.expired():
                self.identify(shown)
            raise
        finally:
            del self._calls[scope]

    def note(self, worker_id: WorkerId, shown: Shown) -> None:
        """Note what a worker shows; of more than can be known, who was not heard of for longest is forgotten."""
        self._workers.pop(worker_id, None)
        self._workers[worker_id] = shown
        if len(self._workers) > MOST_WORKERS:
            del self._workers[next(iter(self._workers))]

    async def watch(self, dismiss: Callable[[WorkerId], Awaitable[None]]) -> None:
        """Look for ever whether anything was revoked: end the calls that were let in by it, and dismiss its workers."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            versions = self._now()
            if versions == self._versions or None in versions:
                continue
            self._versions = versions
            now = asyncio.get_running_loop().time()
            lost = {shown for shown in {*self._calls.values(), *self._workers.values()} if not self._holds(shown)}
            for scope in [scope for scope, shown in self._calls.items() if shown in lost]:
                scope.reschedule(now)
            for worker_id in [worker_id for worker_id, shown in self._workers.items() if shown in lost]:
                del self._workers[worker_id]
                await dismiss(worker_id)

    def _holds(self, shown: Shown) -> bool:
        try:
            self.identify(shown)
        except IdentityError:
            return False
        return True

    def _now(self) -> tuple[Hashable, ...]:
        return tuple(way.version() for way in self._ways)
