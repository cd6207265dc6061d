"""Workers on several devices of this machine, for `lotteryfl work --devices`: one process each, all of them its own."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from lotteryfl.client.settings import full_name
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.memory.bounds import host_bound
from lotteryfl.common.prometheus.exposing import beside
from lotteryfl.common.security.identity import check_name
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.common.telemetry.logs import as_text, from_place
from lotteryfl.output import OutputError
from lotteryfl.running.cores import usable_cores
from lotteryfl.running.device import Place
from lotteryfl.running.parent import LEAVE
from lotteryfl.running.sizing import Measured, Sizing
from lotteryfl.running.workerprocesses import Ended, WorkerProcesses, named_together, start_worker

_CHUNK = 1 << 16
_NOTHING_SAID = "it said nothing"
_TAIL_SECONDS = 1.0
"""For what a process has started to close its stderr too, when it has ended itself."""


@dataclass
class _Child:
    """One worker of a place, over all starts of its process."""

    place: Place
    slot: int = 0
    """Counted over all places, from 0: no two that run at once have the same."""
    last_line: str = _NOTHING_SAID
    assignments: int = 0
    """That it has done."""
    is_registered: bool = False
    """Its process is."""
    line: asyncio.StreamWriter | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    """They read what the process says."""
    leaves: bool = False
    """It was told to."""
    has_ended: bool = False
    """For good."""

    def say(self, prefix: str, line: bytes) -> None:
        """Write what it has written."""
        written = line.decode(errors="replace")
        self.last_line = as_text(written)
        with suppress(OutputError):  # our own trouble: the worker goes on
            sys.stderr.write(f"{from_place(written, prefix)}\n")
            sys.stderr.flush()


class DeviceWorkers(WorkerProcesses):
    """The workers of one command; their lines come out of its stderr, each with its worker's place before it."""

    def __init__(
        self,
        places: Sequence[Place],
        per_device: int | None,
        name: str,
        arguments: Sequence[str],
        note: Callable[[str], None],
        metrics: str = "",
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            places: where they work.
            per_device: how many at each place; None: as many as measuring finds to do the most.
            name: of all; each worker's name has its place and number after it.
            arguments: of the program, for each of them.
            note: is told of every worker that dies, and of what was found.
            metrics: HOST:PORT of the first worker's metrics, after which the others' are; empty: nobody has any.
        """
        super().__init__(note)
        self._places = places
        self._per_device = per_device
        self._name = name
        self._arguments = arguments
        self._metrics = metrics
        self._children: dict[str, _Child] = {}
        self._resized = asyncio.Event()
        self._is_over = False
        self._cores = usable_cores()
        most, share = max(1, self._cores // len(places)), host_bound().nbytes // len(places)
        given = "so many were asked for" if per_device else ""
        self._sizings = {place.name: Sizing(most, share, per_device or 1, given) for place in places}

    async def run(self) -> None:
        """Work until all have ended.

        Raises:
            LotteryFLError: some have ended without the run's having finished; its exit code is theirs.
        """
        async with self._kept():
            for place in self._places:
                await self._come_to_its_number(place)
            if not self._watches:
                raise LotteryFLError(f"no worker could be started: {', '.join(s.why for s in self._sizings.values())}")
            try:
                async with asyncio.TaskGroup() as group:
                    numbers = group.create_task(self._keep_to_numbers())
                    ended = await self._all_ended()
                    numbers.cancel()
            except ExceptionGroup as errors:  # of one task: the group says no more than its first
                raise errors.exceptions[0] from None
        failed = {name: how for name, how in ended.items() if how.code and not self._children[name].leaves}
        if failed:
            error = LotteryFLError(f"not all workers ended well: {named_together(failed)}")
            codes = {how.code for how in failed.values()}
            error.exit_code = codes.pop() if len(codes) == 1 and min(codes) > 0 else LotteryFLError.exit_code
            raise error

    async def _keep_to_numbers(self) -> None:
        """Start workers, and have them leave, whenever there are to be more or less."""
        while await self._resized.wait():
            self._resized.clear()
            for place in self._places:
                await self._come_to_its_number(place)

    async def _come_to_its_number(self, place: Place) -> None:
        """Have as many workers at a place as there are to be; who came last leaves first."""
        sizing = self._sizings[place.name]
        for name in self._at(place)[sizing.count :]:
            self._have_leave(name)
        while len(self._at(place)) < sizing.count and not self._is_over:
            number = 1 + sum(child.place is place for child in self._children.values())
            name = f"{self._name}/{place.name}/{number}"
            check_name(name)
            self._children[name] = _Child(place, self._free_slot())
            try:
                await self._add(name)
            except OSError as error:
                self._children[name].has_ended = True
                sizing.come_down(f"{name} cannot be started: {error.strerror}")
                self._note(f"{place.name}: {sizing.why}")
                return

    def _free_slot(self) -> int:
        taken = {child.slot for child in self._children.values() if not child.has_ended}
        return next(slot for slot in count() if slot not in taken)

    def _at(self, place: Place) -> list[str]:
        children = self._children.items()
        return [name for name, each in children if each.place is place and not (each.leaves or each.has_ended)]

    def _have_leave(self, name: str) -> None:
        """Let a worker end what it has under work, and then itself; one that has not begun ends at once."""
        child = self._children[name]
        child.leaves = True
        if child.is_registered and child.line is not None:
            child.line.write(f"{LEAVE}\n".encode())
        elif (process := self._processes.get(name)) and process.returncode is None:  # else see `_start`
            process.terminate()

    # -- one process

    async def _start(self, name: str) -> asyncio.subprocess.Process:
        child = self._children[name]
        ours, theirs = socket.socketpair()
        with theirs:
            process = await start_worker(
                [
                    *self._arguments,
                    f"--name={name}",
                    f"--device={child.place.device}",
                    f"--sharers={self._sharers(child.place)}",
                    f"--parent={theirs.fileno()}",
                    *([f"--metrics={beside(self._metrics, child.slot)}"] if self._metrics else []),
                ],
                {**os.environ, **child.place.environment},
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
            )
        reader, child.line = await asyncio.open_unix_connection(sock=ours)
        self._sizings[child.place.name].begin_again(name)
        child.last_line, child.is_registered = _NOTHING_SAID, False
        child.tasks = [
            asyncio.create_task(self._pass_on(name, process)),
            asyncio.create_task(self._listen(name, reader)),
        ]
        if child.leaves:  # it was told so when there was no process to hear of it
            process.terminate()
        return process

    def _sharers(self, place: Place) -> int:
        """Return how many share the machine's memory; where that is being found, by what is measured."""
        if self._per_device is not None:
            return self._per_device * len(self._places)
        return self._cores if place.is_cpu else 1

    async def _pass_on(self, name: str, process: asyncio.subprocess.Process) -> None:
        """Write what a process writes to its stderr to ours, line by line."""
        child, rest = self._children[name], b""
        prefix = name.removeprefix(f"{self._name}/")
        while process.stderr and (chunk := await process.stderr.read(_CHUNK)):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                child.say(prefix, line)
        if rest:
            child.say(prefix, rest)

    async def _listen(self, name: str, reader: asyncio.StreamReader) -> None:
        """Hear how a worker's work goes, and have as many workers at its place as is found to be best."""
        child = self._children[name]
        async for line in reader:
            said = json.loads(line)
            child.assignments += "measured" in said
            child.is_registered |= "threads" in said
            if self._per_device is None and not child.leaves:
                self._resize(name, child.place, said)

    def _resize(self, name: str, place: Place, said: Mapping[str, Any]) -> None:
        sizing = self._sizings[place.name]
        before = sizing.count, sizing.why
        if "threads" in said and place.is_cpu and not sizing.why:
            sizing.count, sizing.why = max(1, self._cores // said["threads"]), f"there are {self._cores} cores"
        elif "measured" in said:
            sizing.measured(name, Measured(**said["measured"]))
        elif "short_of_memory" in said:
            sizing.come_down(f"memory was short with {sizing.count}")
        if (sizing.count, sizing.why) == before:
            return
        stays = f", and so it stays: {sizing.why}" if sizing.why else ""
        self._note(f"{place.name}: {sizing.count} worker{'s'[: sizing.count > 1]}{stays}")
        self._resized.set()

    # -- what all worker processes are watched by

    async def _last_line(self, name: str) -> str:
        child = self._children[name]
        done, late = await asyncio.wait(child.tasks, timeout=_TAIL_SECONDS)
        for task in late:
            task.cancel()
        for task in done:
            task.result()
        if child.line is not None:
            child.line.close()
        return child.last_line

    def _progress(self, name: str) -> int:
        return self._children[name].assignments

    def _log_of(self, name: str) -> str:  # noqa: ARG002 - all lines have been seen
        return ""

    def _is_wanted(self, name: str) -> bool:
        return not self._children[name].leaves

    async def _watch(self, name: str) -> Ended:
        ended = await super()._watch(name)
        child = self._children[name]
        child.has_ended = True
        if not ended.code and not child.leaves:
            self._is_over = True
            for other, each in self._children.items():
                if not (each.is_registered or each.has_ended or each.leaves):
                    self._have_leave(other)  # or it would look for a coordinator that is gone
        elif ended.code and not child.leaves:
            self._sizings[child.place.name].come_down("a worker has ended")
            others = sum(not each.has_ended for each in self._children.values())
            self._note(f"{name} has ended, {others} of {len(self._children)} go on: {ended.reason}")
        return ended


def name_of_all(name: str, security: ChannelSecurity) -> str:
    """Return what comes before the names of one command's workers: no other host has it, also with the same token.

    Args:
        name: as it was given; empty: of what certificate or token say, completed with host and process.
        security: certificate and token.

    Raises:
        LotteryFLError: certificate or token are another's, or cannot be used.
    """
    whole = full_name(name, security)
    shared = not name and (security.token or security.tls.cert)
    return full_name(f"{whole}/", security) if shared else whole
