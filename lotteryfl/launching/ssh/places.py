"""Where the parts of a launch by ssh meet: sockets here and on the hosts, and the command lines that name them."""

import hashlib
import os
import shutil
import socket
import stat
import sys
import tempfile
from pathlib import Path

from lotteryfl.common.disk.privatefiles import PRIVATE_FOLDER
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.launcher import Request
from lotteryfl.launching.ssh.calls import HostCalls


class Places:
    """Of one launch; the same for every process that follows it."""

    def __init__(self, request: Request) -> None:
        """Set whose they are."""
        self._request = request
        whole = f"{socket.gethostname()}:{os.getuid()}:{request.run_dir}"
        self._own = hashlib.sha256(whole.encode()).hexdigest()[:12]
        # Not in the launch's folder: the path of a socket has to be short.
        self._folder = Path(tempfile.gettempdir()) / f"lotteryfl-{os.getuid()}-{self._own}"
        self.coordinator = self._folder / "coordinator"
        """The socket at which the coordinator listens."""

    def make(self) -> None:
        """Make the folder of sockets here, for its owner alone; what is left in it of an earlier launch goes.

        Raises:
            LotteryFLError: it cannot be made, or is somebody else's.
        """
        try:
            self._folder.mkdir(PRIVATE_FOLDER, exist_ok=True)
            made = self._folder.lstat()
            if not stat.S_ISDIR(made.st_mode) or made.st_uid != os.getuid() or made.st_mode & 0o077:
                raise LotteryFLError(f"{self._folder}: expected a folder that is this user's alone")
            for path in self._folder.iterdir():
                path.unlink()
        except OSError as error:
            raise LotteryFLError(f"{self._folder}: cannot be made: {error.strerror or error}") from error

    def remove(self) -> None:
        """Remove the folder; twice is no error."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def serve(self) -> list[str]:
        """Return the command of the coordinator."""
        # -P: a folder named lotteryfl where the user stands is not ours.
        program = [sys.executable, "-P", "-m", "lotteryfl"]
        return [*program, "serve", *self._request.serve_arguments, f"--listen=unix:{self.coordinator}"]

    def stop(self) -> list[str]:
        """Return the command that ends a coordinator which nobody keeps any more."""
        return [sys.executable, "-P", "-m", "lotteryfl", "stop", f"unix:{self.coordinator}"]

    def calls(self) -> list[HostCalls]:
        """Return the command lines of every host.

        Raises:
            LotteryFLError: the settings name none, or wrong ones.
        """
        return [
            HostCalls(
                self._request,
                host,
                self._folder / f"host-{number}",
                self.coordinator,
                f"/tmp/lotteryfl-{self._own}-{number}",  # noqa: S108 - sshd makes a socket its owner's, or fails
            )
            for number, host in enumerate(self._request.settings.ssh.all_hosts(), start=1)
        ]
