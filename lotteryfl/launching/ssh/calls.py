"""What is called to use a host: ssh with its options, and the lines of sh that it is to run there.

Hosts, paths and settings are the user's: each is one word of a command line, never an option of ssh or code of a shell.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lotteryfl.launching.launcher import Request
from lotteryfl.launching.settings import LaunchSettings
from lotteryfl.launching.shell import called, prepared
from lotteryfl.launching.ssh.settings import HostSettings

_ALIVE_SECONDS = 15
"""After so long without a word the other side is asked whether it is there; it is gone after three of them."""

_OPTIONS = (
    "BatchMode=yes",  # nobody is there to type a password
    "RemoteCommand=none",
    "ExitOnForwardFailure=yes",
    f"ServerAliveInterval={_ALIVE_SECONDS}",
    "ServerAliveCountMax=3",
)

# The worker is tied to its connection: when that has gone, and with it its standard input, it is stopped, and killed
# where that takes longer than a worker needs to hand back what it has under work.
_TIED = """\
exec 3<&0
{call} </dev/null & w=$!
(cat <&3; kill -TERM $w; i=0
while kill -0 $w && [ $i -lt {seconds} ]; do sleep 1; i=$((i+1)); done
kill -KILL $w) >/dev/null 2>&1 & t=$!
wait $w; c=$?
kill $t 2>/dev/null; rm -f {socket}; exit $c"""

_STOP_SECONDS = 20


@dataclass(frozen=True)
class HostCalls:
    """The command lines for one host."""

    request: Request
    host: HostSettings
    control: Path
    """Where the connection that all calls share is reached here."""
    coordinator: Path
    """The socket that the coordinator listens at here."""
    remote: str
    """The socket by which the coordinator is reached there, for its owner alone."""

    def connect(self) -> list[str]:
        """Return what opens the connection, with the tunnel back to the coordinator, and stays as long as it does."""
        settings = self.request.settings.ssh
        return [
            *self._ssh("-M", "-N", "-S", str(self.control)),
            *("-o", "ControlPersist=no"),
            *("-o", f"ConnectTimeout={settings.connect_seconds}"),
            *("-R", f"{self.remote}:{self.coordinator}"),
            *("--", self.host.host),
        ]

    def version(self) -> list[str]:
        """Return what asks over it for the version of the program there."""
        return self._over_it([called(self.settings, ["--version"])])

    def work(self) -> list[str]:
        """Return what works there over it, for as long as its standard input is open."""
        arguments = [f"--coordinator=unix:{self.remote}", f"--name={self.host.name}"]
        request = replace(self.request, settings=self.settings)
        call = called(self.settings, ["work", *arguments, *request.work_arguments()])
        tied = _TIED.format(call=call, seconds=_STOP_SECONDS, socket=shlex.quote(self.remote))
        return self._over_it(tied.splitlines())

    @property
    def settings(self) -> LaunchSettings:
        """The launch's settings, with this host's own in the place of those for all."""
        own = self.host.model_dump(exclude={"host"}, exclude_defaults=True)
        return self.request.settings.model_copy(update=own)

    def _over_it(self, lines: Sequence[str]) -> list[str]:
        """Return what runs lines of sh there, over the connection or not at all."""
        script = "\n".join([*prepared(self.settings), *lines])
        return [
            *self._ssh("-S", str(self.control), "-o", "ControlMaster=no", "-o", "ProxyCommand=false"),
            *("--", self.host.host, f"exec sh -c {shlex.quote(script)}"),
        ]

    def _ssh(self, *more: str) -> list[str]:
        config = self.request.settings.ssh.config
        return [
            *("ssh", "-a", "-x", "-T"),
            *(("-F", str(Path(config).expanduser().absolute())) if config else ()),
            *(word for option in _OPTIONS for word in ("-o", option)),
            *more,
        ]
