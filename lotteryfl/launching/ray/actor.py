"""What runs in an actor's process: a child of it does the work, so that it is what it is everywhere else.

Ray pickles this class by its name: the code is that of the package that is installed on the node.
"""

import os
import socket
import threading
from dataclasses import dataclass
from typing import NamedTuple

from lotteryfl.common.telemetry.logs import OWN_WORD
from lotteryfl.launching.ports import listens
from lotteryfl.launching.ray.child import Child, Handed
from lotteryfl.launching.ray.node import log_folder, version
from lotteryfl.running.workerprocesses import has_died

_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Orders:
    """All that an actor is told of its child; Ray keeps it for as long as the actor may be started again."""

    name: str
    """Of the child in logs."""
    launch: str
    """Of which launch it is."""
    arguments: tuple[str, ...]
    handed: tuple[Handed, ...]
    environment: dict[str, str]
    version: str
    """The program's where it was launched; '': any will do."""
    stays: bool = False
    """The actor outlives a child that has ended well."""
    port: int = 0
    """Where the child listens on its node; 0: nowhere."""


class Told(NamedTuple):
    """What an actor says of its child."""

    host: str
    """The node's name, by its own word."""
    pid: int
    """Its process's number; 0: it was not started."""
    code: int | None
    """Its exit code; None: it runs."""
    last_line: str
    listens: bool


class Ward:
    """An actor with one child, and with no more life than that.

    A child that has died takes the actor with it, so that Ray starts both again; one that has ended by its own decision
    and not well leaves the actor to tell of it; after one that has ended well the actor goes, unless it stays.
    """

    def __init__(self, orders: Orders) -> None:
        """Start the child."""
        self._orders = orders
        self._is_stopping = False
        self._child: Child | None = None
        self._trouble = ""
        self._has_listened = False
        if orders.version and (here := version()) != orders.version:
            self._trouble = f"lotteryfl {here} is installed there: expected {orders.version}"
            return
        log = log_folder(orders.launch) / f"{orders.name}-{os.getpid()}.log"
        self._child = Child(orders.arguments, orders.handed, orders.environment, log)
        threading.Thread(target=self._watch, args=(self._child,), name="watch", daemon=True).start()

    def told(self) -> Told:
        """Say how the child is."""
        host, child = socket.gethostname(), self._child
        if child is None:
            return Told(host, 0, 1, self._trouble, listens=False)
        reason = child.last_line().removeprefix(OWN_WORD)
        return Told(host, child.pid, child.code, reason, self._listens())

    def stop(self) -> None:
        """End the child; the actor is left for Ray to end."""
        self._is_stopping = True
        if self._child is not None:
            self._child.end(_STOP_SECONDS)

    def _watch(self, child: Child) -> None:
        code = child.wait()
        if self._is_stopping:
            return
        if has_died(code, child.last_line()):
            os._exit(1)
        if code == 0 and not self._orders.stays:
            import ray

            ray.kill(ray.get_runtime_context().current_actor)

    def _listens(self) -> bool:
        if self._orders.port and not self._has_listened:
            self._has_listened = listens(self._orders.port)
        return self._has_listened
