"""Launches a run on hosts that ssh reaches."""

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar

from lotteryfl.common.disk.privatefiles import private
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.launcher import Launcher, Looking, Request, Stage, Standing
from lotteryfl.launching.ssh.calls import STOP_SECONDS
from lotteryfl.launching.ssh.keeper import STAY
from lotteryfl.launching.ssh.kept import Kept, KeptFiles
from lotteryfl.launching.ssh.places import Places
from lotteryfl.launching.ssh.processes import last_line
from lotteryfl.running.environment import inherited

_POLL_SECONDS = 0.2
_END_SECONDS = 4 * STOP_SECONDS
"""How long a keeper has to end workers, coordinator and connections."""


class SSHLauncher(Launcher):
    """The coordinator runs here, beside a process that keeps it, the connections to the hosts, and a worker on each.

    Nothing listens but a socket of this user's, here and on each host, at the two ends of a tunnel through ssh.
    """

    kind: ClassVar[str] = "ssh"
    outlives_its_command: ClassVar[bool] = False

    def __init__(self, request: Request, note: Callable[[str], None]) -> None:
        """Set what is launched; see `Launcher`."""
        super().__init__(request, note)
        self._places = Places(request)
        self._files = KeptFiles(request.folder.path)
        self._keeper: subprocess.Popen[bytes] | None = None
        self._told = 0

    def check(self) -> None:
        """Check that there are hosts, and OpenSSH to reach them with."""
        self.request.settings.ssh.all_hosts()
        if shutil.which("ssh") is None:
            raise LotteryFLError("ssh: is not installed here: expected OpenSSH's client on the PATH")

    def rendered(self) -> dict[str, str]:
        """Return the coordinator's command, and for each host those that connect it, ask it, and work there."""
        found = {"coordinator": shlex.join(self._places.serve())}
        for calls in self._places.calls():
            lines = map(shlex.join, (calls.connect(1), calls.tunnel(1), calls.version(), calls.work(1)))
            found[f"host {calls.host.host}"] = "\n".join(lines)
        return found

    async def up(self) -> None:
        """Start the keeper, and wait until every host is connected and the coordinator listens."""
        self._places.make()
        self._files.forget()
        self.request.folder.note("hosts", [host.host for host in self.request.settings.ssh.all_hosts()])
        log = self.request.folder.path / "keeper.log"
        with open(log, "ab", opener=private) as file:
            self._keeper = subprocess.Popen(  # noqa: S603 - this program
                [sys.executable, "-P", "-m", "lotteryfl.launching.ssh", str(self.request.run_dir)],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env=inherited(),
                start_new_session=True,  # a Ctrl-C at the terminal is this process's to handle
            )
        while (kept := self._kept()) is None or kept.stage is Stage.WAITING:
            if self._keeper.poll() is not None:
                raise LotteryFLError(f"the process that keeps the launch has ended: {last_line(log)} ({log})")
            await asyncio.sleep(_POLL_SECONDS)
        if kept.stage is Stage.ENDED and kept.why:
            raise LotteryFLError(kept.why)

    async def detach(self) -> None:
        """Have the keeper stay when this process has gone."""
        if self._keeper is not None and self._keeper.stdin is not None:
            with suppress(BrokenPipeError):
                self._keeper.stdin.write(STAY.encode())
                self._keeper.stdin.close()

    async def standing(self) -> Standing:
        """Return what the keeper has written down last, and tell what is new about the hosts."""
        is_kept = self._files.keeper() is not None
        kept = self._files.read()
        for line in kept.news_after(self._told):
            self.note(line)
        self._told = kept.told
        if kept.stage is not Stage.ENDED and not is_kept:
            return Standing(
                Stage.ENDED, f"the process that kept the launch is gone; logs: {self.request.folder.path}", 1
            )
        return Standing(kept.stage, kept.why, kept.code)

    def looking(self) -> Looking:
        """Return the run directory: it is here."""
        return Looking(str(self.request.run_dir))

    async def down(self) -> None:
        """Have the keeper end everything; where it is gone itself, do so in its place."""
        await self._end_keeper()
        if self._places.coordinator.is_socket():
            await _called(self._places.stop())
        for calls in self._places.calls():
            if calls.control.is_socket():
                await _called(calls.disconnect())
        self._places.remove()
        self._files.forget()

    async def _end_keeper(self) -> None:
        number = self._files.keeper()
        if number is None:
            return
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                while self._files.keeper() is not None:
                    await asyncio.sleep(_POLL_SECONDS)
                return
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)

    def _kept(self) -> Kept | None:
        try:
            return self._files.read()
        except LotteryFLError:
            return None


async def _called(command: Sequence[str]) -> None:
    """Call a command that may find nothing to do."""
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    await process.wait()
