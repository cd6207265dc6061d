"""Drives the rounds of a served run to their end, and says goodbye to its workers."""

import asyncio
import sqlite3
from collections.abc import Callable

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.channel import CALL_SECONDS
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.rpc.bell import wait_for
from lotteryfl.server.rpc.receiving import Uploads
from lotteryfl.server.rpc.served import ServedRun


class RoundLoop:
    """Does what the coordinator says that a run needs next, until it has ended."""

    def __init__(self, served: ServedRun, uploads: Uploads, show: Callable[[pb.RunStatus], None]) -> None:
        """Set what is driven.

        Args:
            served: the run.
            uploads: of its results; those that were cut are over with their round.
            show: is called with the run's status whenever it may have changed.
        """
        self._served = served
        self._coordinator = served.coordinator
        self._uploads = uploads
        self._show = show

    @property
    def number(self) -> int:
        """The open round."""
        return self._coordinator.round

    async def run(self) -> None:
        """Drive the rounds to the run's end, then wait until its workers know of it.

        Raises:
            LotteryFLError: the run failed; the reason is its message.
        """
        try:
            while await self._step():
                pass
        except (OSError, sqlite3.Error) as error:
            raise LotteryFLError(
                f"{self._served.run.path}: {error}; nothing that was accepted is lost: see to it and start again"
            ) from error
        await self._say_goodbye()
        self._coordinator.raise_if_failed()

    async def take_back_all(self, reason: str) -> None:
        """Give out again what workers had before this start; they are known to be gone."""
        await self._served.call(self._coordinator.take_back_all, reason)

    async def fail(self, reason: str) -> None:
        """End the run, unless it has ended, when no worker is left to be told."""
        await self._served.call(self._coordinator.fail, reason)
        for worker_id in await self._served.call(self._coordinator.alive_workers):
            self._served.departed.add(worker_id)
        self._served.announce()

    async def _step(self) -> bool:
        served, coordinator = self._served, self._coordinator
        changed = served.changed.listen()
        served.raise_if_disk_failed()
        step = await served.call(coordinator.advance)
        self._show(await served.call(coordinator.status))
        if step is Step.WAIT:
            await wait_for(changed, await served.call(coordinator.seconds_until_check))
        elif step is Step.OFFER:
            served.announce()
        elif step is Step.COMMIT:
            closed = await served.call(coordinator.closed_round)
            unneeded = await served.call(coordinator.commit, await asyncio.to_thread(closed.conclude))
            self._uploads.forget_cut()
            served.announce()
            await asyncio.to_thread(served.run.remove, unneeded)  # takes as long as files are large
        return step is not Step.ENDED

    async def _say_goodbye(self) -> None:
        """Keep answering until every living worker has been told, but not for ever."""
        served = self._served
        served.announce()
        deadline = asyncio.get_running_loop().time() + CALL_SECONDS
        while True:
            changed = served.changed.listen()
            alive = await served.call(self._coordinator.alive_workers)
            untold = any(worker_id not in served.departed for worker_id in alive)
            remaining = deadline - asyncio.get_running_loop().time()
            if not untold or remaining <= 0:
                return
            await wait_for(changed, min(remaining, served.run.experiment.round.lease))  # then the silent count as dead
