"""Drives the rounds of a served run to their end, and says goodbye to its workers."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.channel import CALL_SECONDS
from lotteryfl.common.telemetry.about import about
from lotteryfl.common.telemetry.stages import Stages
from lotteryfl.common.telemetry.tracing import within
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.rpc.bell import wait_for
from lotteryfl.server.rpc.receiving import Uploads
from lotteryfl.server.rpc.served import LINGER_SECONDS, ServedRun

_SHOW_SECONDS = 1.0
"""The longest that a change is not shown which the rounds need not know of."""

_SHOWING = 0.05
"""Share of the coordinator's time in which a status may be made for showing: with many workers that takes long."""


class _Look(NamedTuple):
    """A look at a run."""

    step: Step
    seconds: float
    """Until the next, unless something happens before."""
    status: pb.RunStatus | None
    """Where the run stands, if that is to be shown."""


class RoundLoop:
    """Does what the coordinator says that a run needs next, until it has ended."""

    def __init__(self, served: ServedRun, uploads: Uploads, show: Callable[[pb.RunStatus], None]) -> None:
        """Set what is driven.

        Args:
            served: the run.
            uploads: of its results; those that were cut are over with their round.
            show: is called with the run's status after every round and other step, and every now and then between.
        """
        self._served = served
        self._coordinator = served.coordinator
        self._uploads = uploads
        self._show = show
        self.stages = Stages()
        """What the ends of rounds take: aggregate, commit."""
        self._next_show = 0.0
        self._removal: asyncio.Task[None] | None = None

    @property
    def number(self) -> int:
        """The open round."""
        return self._coordinator.round

    async def run(self) -> None:
        """Drive the rounds to the run's end, then wait until its workers know of it.

        Raises:
            LotteryFLError: the run failed; the reason is its message.
            asyncio.CancelledError: the run has not ended, and somebody wants the process to end, at once or with the
                open round.
        """
        self._served.driver = asyncio.current_task()
        try:
            try:
                while await self._step_of_round():
                    pass
            finally:
                await self._removed()
        except (OSError, sqlite3.Error) as error:
            raise LotteryFLError(
                f"{self._served.run.path}: {error}; nothing that was accepted is lost: see to it and start again"
            ) from error
        await self._say_goodbye()
        self._coordinator.raise_if_failed()
        if self._coordinator.steering.is_drained:
            raise asyncio.CancelledError(self._coordinator.reason)

    async def take_back_all(self, reason: str) -> None:
        """Give out again what workers had before this start; they are known to be gone."""
        await self._served.call(self._coordinator.take_back_all, reason)

    async def fail(self, reason: str) -> None:
        """End the run, unless it has ended, when no worker is left to be told."""
        await self._served.call(self._coordinator.fail, reason)
        for worker_id in await self._served.call(self._coordinator.alive_workers):
            self._served.departed.add(worker_id)
        self._served.announce()

    async def _step_of_round(self) -> bool:
        with about(round=self.number):
            return await self._step()

    async def _step(self) -> bool:
        served = self._served
        changed = served.changed.listen()
        served.raise_if_disk_failed()
        step, seconds, status = await served.call(self._look)
        if status is not None:
            self._show(status)
        if step is Step.WAIT:
            await wait_for(changed, seconds)
        elif step is Step.OFFER:
            served.announce()
        elif step is Step.COMMIT:
            await self._removed()
            unneeded = await self._conclude()
            self._uploads.forget_cut()
            arrived = served.arrived.listen()
            served.announce()
            self._next_show = 0.0  # every round is shown
            self._removal = asyncio.create_task(self._remove(unneeded, arrived))
        return step is not Step.ENDED

    async def _conclude(self) -> list[Path]:
        """Aggregate and commit the round; return what is not needed any more."""
        call, coordinator = self._served.call, self._coordinator
        with within(coordinator.traces.round.parent):
            closed = await call(coordinator.closed_round)
            with self.stages.timed("aggregate"):
                conclusion = await asyncio.to_thread(closed.conclude)
            with self.stages.timed("commit"):
                return await call(coordinator.commit, conclusion)

    async def _remove(self, unneeded: Sequence[Path], arrived: asyncio.Event) -> None:
        """Delete what a round has left without use once workers are at work: who leases would wait for the disk."""
        if not self._coordinator.is_over:
            await wait_for(arrived, _SHOW_SECONDS)
        await asyncio.to_thread(self._served.run.remove, unneeded)
        await self._served.call(self._coordinator.look_at_disk)

    async def _removed(self) -> None:
        """Wait until what was to be deleted is; raises what that has raised."""
        removal, self._removal = self._removal, None
        if removal is not None:
            await removal

    def _look(self) -> _Look:
        """Take the run a step on, in the coordinator's thread; all in one visit there."""
        step, status = self._coordinator.advance(), None
        begin = time.monotonic()
        if step is not Step.WAIT or begin >= self._next_show:
            status = self._coordinator.status()
            end = time.monotonic()
            self._next_show = end + (end - begin) / _SHOWING
        return _Look(step, min(_SHOW_SECONDS, self._coordinator.seconds_until_check()), status)

    async def _say_goodbye(self) -> None:
        """Keep answering until every living worker has been told, but not for ever; who watches may ask once more."""
        served, now = self._served, asyncio.get_running_loop().time
        served.announce()
        begin = now()
        while True:
            changed = served.changed.listen()
            alive = await served.call(self._coordinator.alive_workers)
            untold = any(worker_id not in served.departed for worker_id in alive)
            remaining = begin + (CALL_SECONDS if untold else LINGER_SECONDS if served.watchers else 0.0) - now()
            if remaining <= 0:
                return
            await wait_for(changed, min(remaining, served.run.experiment.round.lease))  # then the silent count as dead
