"""The process beside a run that feeds trackers with it: started, started again when it dies, and ended with the run."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lotteryfl.common.commandline import given
from lotteryfl.common.disk.privatefiles import PRIVATE_FOLDER, private
from lotteryfl.running.environment import inherited
from lotteryfl.running.workerprocesses import MOST_RESTARTS

_INTERRUPTED_SECONDS = 3.0
"""The longest wait where the run was interrupted: who stops it waits for that, and it goes on later."""

_PAUSE_SECONDS = 1.0
"""Before it is started again."""

_GRACE_SECONDS = 12.0
"""Beyond the time that the user gives it, for an answer that is under way; then it says itself what it has not done."""

_STOP_SECONDS = 2.0


@dataclass(frozen=True)
class Tracking:
    """Which trackers are fed with a run, as the command line says."""

    targets: tuple[str, ...] = ()
    wait: float = 60.0
    """Seconds after the run's end in which a tracker that is down is tried again."""

    def options(self) -> list[str]:
        """Return what a command that goes on with the run is told of it, as it may be shown: without passwords."""
        if not self.targets:
            return []
        from lotteryfl.server.results.trackers.tracker import without_secrets  # who asks for none imports none

        return given(track=tuple(map(without_secrets, self.targets)), track_wait=f"{self.wait:g}")


@contextmanager
def tracked(run: Path, tracking: Tracking, note: Callable[[str], None]) -> Iterator[None]:
    """Feed trackers while the block runs; the run never waits for them, but the block's end does for a while.

    Args:
        run: the run directory.
        tracking: which, and for how long.
        note: is told in lines what is out of the ordinary, from another thread.
    """
    if not tracking.targets:
        yield
        return
    process = _Process(run, tracking, note)
    try:
        yield
    except BaseException:
        process.end(min(tracking.wait, _INTERRUPTED_SECONDS), _STOP_SECONDS)
        raise
    process.end(tracking.wait, _GRACE_SECONDS)


class _Process:
    """One `lotteryfl track`, and again one when it dies."""

    def __init__(self, run: Path, tracking: Tracking, note: Callable[[str], None]) -> None:
        self._run = run
        self._tracking = tracking
        self._note = note
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._deadline = float("inf")
        self._start()
        self._thread = threading.Thread(target=self._keep, name="trackers", daemon=True)
        self._thread.start()

    def end(self, wait: float, grace: float) -> None:
        """Let it send what there is, and leave no process behind.

        Args:
            wait: seconds in which it may try again.
            grace: seconds beyond these, for an answer that is under way.
        """
        with self._lock:
            self._deadline = time.monotonic() + wait
            self._ending.set()
            self._hang_up()
        try:
            self._thread.join(wait + grace)
            if self._thread.is_alive():
                self._note("trackers: gave no answer, and were ended")
                self._popen.terminate()
                self._thread.join(_STOP_SECONDS)
        finally:
            if self._popen.poll() is None:
                self._popen.kill()

    def _keep(self) -> None:
        """Pass on what the process says; start it again when it dies of something else than its own decision."""
        restarts = 0
        while True:
            with self._line.makefile(errors="replace") as lines:
                for line in lines:
                    self._note(line.rstrip("\n"))
            code = self._popen.wait()
            if code >= 0 or restarts == MOST_RESTARTS or time.monotonic() >= self._deadline:
                return
            restarts += 1
            self._note(f"trackers: their process was ended by signal {-code}, and is started again")
            self._ending.wait(_PAUSE_SECONDS)
            with self._lock:
                self._start()
                if self._ending.is_set():
                    self._hang_up()

    def _start(self) -> None:
        logs = self._run / "logs"
        logs.mkdir(PRIVATE_FOLDER, exist_ok=True)
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "lotteryfl", "track", str(self._run)]
        command += [f"--to={target}" for target in self._tracking.targets]
        command += [f"--wait={self._tracking.wait:g}", f"--parent={theirs.fileno()}"]
        with theirs, open(logs / "trackers.log", "ab", opener=private) as log:
            self._popen = subprocess.Popen(  # noqa: S603 - the program itself
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
                env=inherited(),
            )
        self._line = ours

    def _hang_up(self) -> None:
        """Say that nothing more comes, and how long the rest may take."""
        with suppress(OSError):  # it has died
            self._line.sendall(f"{max(0.0, self._deadline - time.monotonic()):.3f}".encode())
            self._line.shutdown(socket.SHUT_WR)
