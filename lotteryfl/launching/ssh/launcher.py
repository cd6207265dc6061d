"""Launches a run on hosts that ssh reaches."""

import hashlib
import os
import shlex
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.launcher import Launcher, Looking, Standing
from lotteryfl.launching.ssh.calls import HostCalls


class SSHLauncher(Launcher):
    """The coordinator runs here, and a process that keeps it, the connections to the hosts, and a worker on each."""

    kind: ClassVar[str] = "ssh"
    outlives_its_command: ClassVar[bool] = False

    def check(self) -> None:
        """Check that there are hosts, and OpenSSH to reach them with."""
        self.request.settings.ssh.all_hosts()
        if shutil.which("ssh") is None:
            raise LotteryFLError("ssh: is not installed here: expected OpenSSH's client on the PATH")

    def rendered(self) -> dict[str, str]:
        """Return the coordinator's command, and for each host the commands that reach it and work there."""
        found = {"coordinator": shlex.join(self.serve())}
        for calls in self.calls():
            lines = map(shlex.join, (calls.connect(), calls.version(), calls.work()))
            found[f"host {calls.host.host}"] = "\n".join(lines)
        return found

    async def up(self) -> None:
        """Start the keeper, and wait until every host has a worker."""
        raise NotImplementedError

    async def standing(self) -> Standing:
        """Return what the keeper has written down of itself."""
        raise NotImplementedError

    async def down(self) -> None:
        """Stop the keeper, which stops what is on the hosts."""
        raise NotImplementedError

    def looking(self) -> Looking:
        """Return the run directory: it is here."""
        return Looking(str(self.request.run_dir))

    def serve(self) -> list[str]:
        """Return the command of the coordinator."""
        listen = f"--listen=unix:{self.sockets / 'coordinator'}"
        # -P: a folder named lotteryfl where the user stands is not ours.
        return [sys.executable, "-P", "-m", "lotteryfl", "serve", *self.request.serve_arguments, listen]

    def calls(self) -> list[HostCalls]:
        """Return the command lines of every host."""
        return [
            HostCalls(
                self.request,
                host,
                self.sockets / f"host-{number}",
                self.sockets / "coordinator",
                f"/tmp/lotteryfl-{self._own}-{number}.sock",  # noqa: S108 - sshd makes it its owner's alone, or fails
            )
            for number, host in enumerate(self.request.settings.ssh.all_hosts(), start=1)
        ]

    @property
    def sockets(self) -> Path:
        """The folder of sockets here, whose paths have to be short, for its owner alone."""
        return Path(tempfile.gettempdir()) / f"lotteryfl-{os.getuid()}-{self._own}"

    @property
    def _own(self) -> str:
        """What tells this launch from every other, on each of its machines."""
        whole = f"{socket.gethostname()}:{os.getuid()}:{self.request.run_dir}"
        return hashlib.sha256(whole.encode()).hexdigest()[:12]
