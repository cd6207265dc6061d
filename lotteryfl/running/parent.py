"""A worker's side of the line to the process that has started it as one of several."""

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable

import torch

from lotteryfl.client.overseer import Overseer
from lotteryfl.common.accelerators import device_memory
from lotteryfl.common.memory.peak import Peak
from lotteryfl.common.security.channel import GOODBYE_SECONDS
from lotteryfl.exitcodes import INTERRUPTED
from lotteryfl.running.sizing import Measured
from lotteryfl.stopsignals import stop_signals

LEAVE = "leave"
"""What the parent says to have its worker leave once it has nothing under work."""


class Parent(Overseer):
    """Tells the parent how the work goes; when it is gone, however it went, this process goes too."""

    def __init__(self, descriptor: int, device: torch.device) -> None:
        """Begin to listen.

        Args:
            descriptor: of the inherited end of the line, a socket.
            device: where this process works.
        """
        self._line = socket.socket(fileno=descriptor)
        self._line.set_inheritable(False)  # what a user's code starts does not hold it open
        self._device = device
        self._speaking = threading.Lock()  # several threads of a worker do
        self._is_done_with = threading.Event()
        self._leave: Callable[[], object] = lambda: None
        threading.Thread(target=self._listen, name="parent", daemon=True).start()

    def registered(self, threads: int) -> None:
        """Say with how many threads this process trains."""
        self._say(threads=threads)

    def done(self, examples: int, seconds: float, peak: Peak) -> None:
        """Say what an assignment's work came to."""
        memory = device_memory(self._device)
        free, total = (memory.free, memory.total) if memory else (0, 0)
        self._say(measured=Measured(examples, seconds, peak.host, peak.held, free, total)._asdict())

    def short_of_memory(self) -> None:
        """Say that there was not the memory for an assignment."""
        self._say(short_of_memory=True)

    def on_done_with(self, leave: Callable[[], object]) -> None:
        """Have it called when the parent says so, or has said so; perhaps twice."""
        self._leave = leave
        if self._is_done_with.is_set():
            leave()

    def _say(self, **what: object) -> None:
        with contextlib.suppress(OSError), self._speaking:  # it is gone: who listens hears of it too
            self._line.sendall(json.dumps(what).encode() + b"\n")

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._line.makefile() as lines:
            for line in lines:
                if line.strip() == LEAVE:
                    self._is_done_with.set()
                    self._leave()
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(2 * GOODBYE_SECONDS)
        os._exit(INTERRUPTED)  # what hangs in a kernel or in a user's code is no orphan either


def stop_once() -> None:
    """Let the first signal that stops this process be the last: its parent passes on what its whole group may get."""

    def stop(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, *stop_signals())
    for number in numbers:
        signal.signal(number, stop)
