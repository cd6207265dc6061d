"""A coordinator and its workers under faults: a supervisor that starts what died, and a history of what happened."""

import re
import signal
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple, Self

from tests.chaos import powered
from tests.chaos.member import Member
from tests.support.proxy import Proxy

COORDINATOR = "coordinator"
RUN = f"{powered.DISK}/run"
"""The run directory, below the folder of all members."""
LEASE_SECONDS = 2.0
_TICK = 0.01
_STUCK_SECONDS = 120.0
"""Without an accepted result for so long, a run counts as stuck."""

_READY = re.compile(r"listening at \S+:\d+$|: registered, on ")
_ACK = re.compile(r"(r\d+-c\d+-a\d+): (?:accepted|duplicate); ")


class Outside(NamedTuple):
    """A fault that comes from outside of the process."""

    victim: str
    kind: str
    """kill, term, stop; of a worker also cut and stall: of its connections."""


class Struck(NamedTuple):
    """A fault that has happened."""

    time: float
    victim: str
    what: str


class Ack(NamedTuple):
    """A result that a worker knows to be counted."""

    time: float
    worker: str
    assignment: str


@dataclass
class History:
    """What happened in one run, as seen from outside."""

    faults: list[Struck] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    restarts: int = 0
    power_cuts: int = 0
    seconds: float = 0.0

    def recoveries(self, *, alone: bool) -> list[tuple[float, Struck]]:
        """Return the seconds from every fault to the next result: of the worker that was struck, or of any.

        With `alone` those faults only between which and that result nothing else was struck.
        """
        found = []
        for fault in self.faults:
            after = (a.time for a in self.acks if a.time > fault.time and fault.victim in (COORDINATOR, a.worker))
            first = min(after, default=None)
            if first is None:
                continue  # the run has ended before
            if not alone or not any(fault.time < other.time < first for other in self.faults):
                found.append((first - fault.time, fault))
        return found


class Cluster:
    """One run under faults, from its start to its end."""

    def __init__(
        self,
        folder: Path,
        experiment: Path,
        task: Path,
        workers: int,
        plans: Mapping[str, Sequence[str]],
        random: Random,
    ) -> None:
        """Start everything; `plans` are the faults inside of the processes, by member."""
        self.history = History()
        self._random = random
        self._stack = ExitStack()
        self._later: list[tuple[float, Member | Proxy]] = []
        port = free_port()
        self._folder = folder
        serve = ["serve", experiment, f"--listen=127.0.0.1:{port}", f"--run-dir={RUN}"]
        (folder / powered.DISK).mkdir()
        self._members = {
            COORDINATOR: Member(COORDINATOR, serve, folder, plans.get(COORDINATOR, ()), module=powered.__name__)
        }
        self._proxies = {}
        for number in range(1, workers + 1):
            name = f"worker-{number}"
            proxy = self._proxies[name] = self._stack.enter_context(Proxy(port))
            work = ["work", f"--coordinator=127.0.0.1:{proxy.port}", f"--name={name}", f"--task={task}", "--device=cpu"]
            self._members[name] = Member(name, work, folder, plans.get(name, ()))
        self._stack.callback(lambda: [member.kill() for member in self._members.values()])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, schedule: Sequence[Outside]) -> None:
        """Drive the run to its end under these faults, or those of them for which there is time."""
        left = deque(schedule)
        next_fault = time.time() + self._random.uniform(0, 2)
        start = moved = time.time()
        while not self._is_over():
            time.sleep(_TICK)
            before = len(self.history.acks), len(self.history.faults)
            self._look()
            self._continue()
            now = time.time()
            if before != (len(self.history.acks), len(self.history.faults)):
                moved = now
            assert now < moved + _STUCK_SECONDS, f"no progress for {_STUCK_SECONDS:g} s; the logs are in {self._folder}"
            if left and now >= next_fault and self._strike(left[0]):
                left.popleft()
                next_fault = now + self._random.uniform(0.1, 1.2)
        self._look()
        self.history.seconds = time.time() - start

    # -- what happened

    def _look(self) -> None:
        for member in self._members.values():
            code = member.exit_code  # before its last words are read
            self.history.faults += (
                Struck(float(when), member.name, what) for when, what in map(str.split, member.faults.lines())
            )
            for line in member.said.lines():
                member.is_ready |= bool(_READY.search(line))
                member.is_late |= "the run had finished" in line
                if ack := _ACK.search(line):
                    self.history.acks.append(Ack(time.time(), member.name, ack[1]))
            if code is not None and code != 0:
                if member.name == COORDINATOR:
                    self.history.power_cuts += powered.power_up(self._folder)
                member.start()
                self.history.restarts += 1
            elif member.is_stopped and all(member is not what for _, what in self._later):
                self._later.append((time.time() + self._random.uniform(0.2, 1.5 * LEASE_SECONDS), member))

    def _continue(self) -> None:
        """Let go on what was held for long enough."""
        now = time.time()
        for due, held in [item for item in self._later if item[0] <= now]:
            self._later.remove((due, held))
            if isinstance(held, Proxy):
                held.flow()
            elif held.exit_code is None:
                held.send(signal.SIGCONT)

    # -- what is done to it

    def _strike(self, fault: Outside) -> bool:
        """Do what the fault says; False while its victim is down already, or has not come up."""
        member = self._members[fault.victim]
        if member.exit_code is not None or not member.is_ready or member.is_stopped:
            return False
        self.history.faults.append(Struck(time.time(), fault.victim, fault.kind))
        if fault.kind == "cut":
            self._proxies[fault.victim].cut()
        elif fault.kind == "stall":
            self._proxies[fault.victim].stall()
            until = time.time() + self._random.uniform(0.2, 1.5 * LEASE_SECONDS)
            self._later.append((until, self._proxies[fault.victim]))
        else:
            member.send({"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}[fault.kind])
        return True

    # -- its end

    def _is_over(self) -> bool:
        """Tell whether the coordinator has left, or is only here to tell workers who know already.

        One that was started again after the end tells so for a minute.
        """
        coordinator = self._members[COORDINATOR]
        told = all(self._members[name].exit_code == 0 for name in self._proxies)
        return coordinator.exit_code == 0 or (told and coordinator.is_late)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
