"""The runs of a comparison as one array of jobs: each job is one run, on one node, with workers of its own."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.telemetry.logs import last_error
from lotteryfl.comparing.cells import Cell
from lotteryfl.exitcodes import LEFT_OUT
from lotteryfl.launching.following import begun, take_down
from lotteryfl.launching.launcher import Request
from lotteryfl.launching.slurm.launcher import SlurmLauncher
from lotteryfl.launching.slurm.queue import Job, job_name, jobs_of
from lotteryfl.launching.slurm.scripts import cells_script

CELLS = "cells"
"""Under which word the folder has the runs' names, in the order of the array."""

_TROUBLE_SECONDS = 120.0
"""For how long Slurm may not answer, or know nothing of the jobs, before they are not followed any more."""

_FORGOTTEN = "Slurm knows nothing of its job any more, and it has not finished"
"""Why a run may have failed whose job ended long before anybody looked; its run directory says whether it has."""


class Sweep:
    """The array of a comparison: submitted for what is missing, or followed again."""

    def __init__(self, request: Request, verb: Sequence[str], at_once: int, note: Callable[[str], None]) -> None:
        """Set what is launched; nobody has asked Slurm yet.

        Args:
            request: with the experiment file, and the comparison's folder in the place of a run directory.
            verb: the command of each run and its options, as ("run", "--workers=2").
            at_once: so many runs at most at the same time; 0: as many as the cluster lets.
            note: is told of every start and end.
        """
        self._request = request
        self._verb = verb
        self._at_once = at_once
        self._note = note
        self._launcher = SlurmLauncher(request, note)

    def check(self) -> None:
        """Check tools and settings.

        Raises:
            LotteryFLError: one is missing or wrong.
        """
        settings = self._request.settings.slurm
        for key, value, expected in (("nodes", settings.nodes, 1), ("coordinator", settings.coordinator, "job")):
            if value != expected:
                raise LotteryFLError(
                    f"slurm.{key} = {value!r}: expected {expected!r}: a run of a comparison has a node"
                )
        self._launcher.check()

    def under_way(self) -> frozenset[str]:
        """Return the names of the runs that an array has which is up: nobody may look at those from here.

        Raises:
            LotteryFLError: the record of the array is damaged.
        """
        folder = self._request.folder
        return frozenset(folder.started(CELLS)) if folder.is_up else frozenset()

    def script(self, cells: Sequence[Cell]) -> str:
        """Return what is submitted."""
        return cells_script(self._request, job_name(self._request.run_dir), cells, self._verb, self._at_once)

    async def run(self, cells: Sequence[Cell]) -> dict[Cell, str]:
        """Submit these cells, after those of an array that is up already, and follow them until all have ended.

        Interrupted, the jobs go on.

        Args:
            cells: that are not finished.

        Returns:
            Of the cells that failed, why.

        Raises:
            LotteryFLError: they cannot be submitted, or nobody knows any more how they stand.
        """
        folder = self._request.folder
        if not folder.is_up:
            if not cells:
                return {}
            await self._submit(cells)
        names = folder.started(CELLS)
        by_name = {cell.path.name: cell for cell in cells}
        ended = await self._follow(names)
        await take_down(self._launcher)
        failed = {by_name[name]: why for name, why in ended.items() if why and name in by_name}
        for cell in [cell for cell, why in failed.items() if why is _FORGOTTEN and cell.is_finished()]:
            del failed[cell]
        return failed | await self.run([cell for cell in cells if cell.path.name not in ended])

    async def _submit(self, cells: Sequence[Cell]) -> None:
        folder = self._request.folder
        async with begun(self._launcher):
            folder.note("name", [job_name(self._request.run_dir)])
            folder.note(CELLS, [cell.path.name for cell in cells])
            await self._launcher.submit("job.sh", self.script(cells))

    async def _follow(self, names: Sequence[str]) -> dict[str, str]:
        """Wait until all jobs have ended; return by cell why it has failed, '': it has not."""
        (number,) = self._request.folder.started("job") or ("",)
        if not number:
            down = f"lotteryfl launch slurm {self._request.run_dir} --down"
            raise LotteryFLError(f"{self._request.folder.path}: no job was submitted: forget it with {down}")
        clock = asyncio.get_running_loop().time
        known, before, ended = clock(), dict[str, str](), dict[str, str]()
        while len(ended) < len(names):
            jobs = await self._asked(number, clock() - known > _TROUBLE_SECONDS)
            for place, name in enumerate(names, start=1):
                job = jobs.get(f"{number}_{place}")
                if job is None or name in ended:
                    continue
                known = clock()
                if news := self._news(name, job, ended):
                    if news != before.get(name):
                        self._note(f"{place}/{len(names)} {name}: {news}")
                    before[name] = news
            if clock() - known > _TROUBLE_SECONDS:
                return dict.fromkeys(names, _FORGOTTEN) | ended
            if len(ended) < len(names):
                await asyncio.sleep(self._request.settings.slurm.ask_seconds)
        return ended

    async def _asked(self, number: str, is_too_late: bool) -> dict[str, Job]:
        """Return the jobs by their ids; none while Slurm does not answer."""
        try:
            return {job.id: job for job in await jobs_of(number)}
        except LotteryFLError:
            if is_too_late:
                raise
            return {}

    def _news(self, name: str, job: Job, ended: dict[str, str]) -> str:
        """Return what is to be told of a cell, '': nothing; one that has ended is put down."""
        if job.waits:
            return f"waits: {job.described}" if job.reason not in ("", "Priority", "Resources") else ""
        if job.is_running:
            return "begins"
        log = self.log_of(name)
        if job.state == "COMPLETED":
            ended[name] = ""
            return "finished"
        if job.state == "FAILED" and job.code == LEFT_OUT:
            ended[name] = ""
            return f"warning: clients were left out of rounds, see {log}"
        why = last_error(log) if job.state == "FAILED" else ""
        ended[name] = why or f"{job.described} (log: {log})"
        return ended[name]

    def log_of(self, name: str) -> Path:
        """Return where a cell's run says what it does."""
        return self._request.folder.logs / f"{name}.log"
