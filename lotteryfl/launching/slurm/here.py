"""The coordinator on this machine, beside a scheduler's jobs: a process that outlives the command that starts it."""

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lotteryfl.common.disk.heldfile import hold, is_held
from lotteryfl.common.disk.privatefiles import private
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.telemetry.logs import last_error
from lotteryfl.launching.folder import LaunchFolder
from lotteryfl.launching.ports import listens

_SCRIPT = """\
#!/bin/sh
# The coordinator, on the machine that the jobs were submitted from.
trap 'kill "$coordinator"' TERM
{serve} &
coordinator=$!
echo $$ >{folder}/pid
wait "$coordinator"
code=$?
trap '' TERM
kill -0 "$coordinator" 2>/dev/null && {{ wait "$coordinator"; code=$?; }}
echo "$code" >{folder}/ended
{after}
"""

_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.1


class CoordinatorHere:
    """A process with the folder's lock: whoever finds that free knows that it has ended, whatever its number."""

    def __init__(self, folder: LaunchFolder) -> None:
        """Set whose it is."""
        self._folder = folder
        self.log = folder.logs / "coordinator.log"
        """What it says."""

    def script(self, arguments: Sequence[str], after: str) -> str:
        """Return what is run: the coordinator by this same program, and what comes after its end, a line of sh."""
        serve = shlex.join([sys.executable, "-P", "-m", "lotteryfl", *arguments])
        return _SCRIPT.format(serve=serve, folder=shlex.quote(str(self._folder.path)), after=after)

    async def start(self, script: Path, port: int) -> None:
        """Start it, and wait until it listens.

        Raises:
            LotteryFLError: it has ended instead.
        """
        self._folder.note("host", [socket.gethostname()])
        (self._folder.path / "ended").unlink(missing_ok=True)
        held = f"{self._lock}: a coordinator of this launch runs already"
        with hold(self._lock, held) as lock, open(self.log, "ab", opener=private) as log:
            subprocess.Popen(  # noqa: S603 - our own script
                ["/bin/sh", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )
        while not await asyncio.to_thread(listens, port):
            if not self.is_running():
                raise LotteryFLError(self.last_line() or f"the coordinator has ended: see {self.log}")
            await asyncio.sleep(_LOOK_SECONDS)

    def is_running(self) -> bool:
        """Tell whether it is.

        Raises:
            LotteryFLError: it was started on another machine, and only that can tell.
        """
        (host,) = self._folder.started("host") or (socket.gethostname(),)
        if host != socket.gethostname():
            raise LotteryFLError(f"{self._folder.path}: its coordinator was started on {host}: call lotteryfl there")
        return is_held(self._lock)

    def code(self) -> int:
        """Return the exit code with which it has ended; 1: nobody has written it down."""
        try:
            return int((self._folder.path / "ended").read_text()[:8])
        except (OSError, ValueError):
            return 1

    def last_line(self) -> str:
        """Return the last line of its log that the program has written of an error; '': there is none."""
        return last_error(self.log)

    async def stop(self) -> None:
        """Have it stop as by Ctrl-C, and end it where that takes too long; one that has ended is no error.

        Raises:
            LotteryFLError: it was started on another machine.
        """
        clock = asyncio.get_running_loop().time
        number, deadline = signal.SIGTERM, clock() + _STOP_SECONDS
        is_told = False
        while self.is_running():
            if not is_told:
                is_told = self._tell(number)
            if clock() > deadline:
                number, is_told, deadline = signal.SIGKILL, False, clock() + _STOP_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)

    def _tell(self, number: signal.Signals) -> bool:
        """Have it stop, or end it with all that it has started; return whether it is known whom to send the signal."""
        try:
            group = int((self._folder.path / "pid").read_text()[:16])
        except (OSError, ValueError):
            return False  # it has only just begun
        with suppress(ProcessLookupError):
            (os.kill if number is signal.SIGTERM else os.killpg)(group, number)
        return True

    @property
    def _lock(self) -> Path:
        return self._folder.path / "lock"
