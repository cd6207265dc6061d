"""What is called to use a host: ssh with its options, and the lines of sh that it is to run there.

Hosts, paths and settings are the user's: each is one word of a command line, never an option of ssh or code of a shell.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lotteryfl.launching.launcher import Request
from lotteryfl.launching.settings import LaunchSettings
from lotteryfl.launching.shell import called, prepared
from lotteryfl.launching.ssh.settings import HostSettings

READY = "lotteryfl: connected"
"""The line by which a host says that its connection is there."""

STOP_SECONDS = 20
"""How long a worker has to hand back what it has under work."""

_ALIVE_SECONDS = 15
"""After so long without a word the other side is asked whether it is there; after three times it is gone."""

_OPTIONS = (
    "BatchMode=yes",  # nobody is there to type a password
    "RemoteCommand=none",
    f"ServerAliveInterval={_ALIVE_SECONDS}",
    "ServerAliveCountMax=3",
)

# Both are tied to the standard input, which ends when the connection does, or whoever holds it here. A socket of this
# name may be left there from a launch before which was not ended as it should.
_CONNECTED = "rm -f {socket}; echo {ready}; cat >/dev/null; rm -f {socket}"
_TIED = """\
exec 3<&0
{call} </dev/null 3<&- & w=$!
(cat <&3 >/dev/null; kill -TERM $w; i=0; while kill -0 $w && [ $i -lt {seconds} ]; do sleep 1; i=$((i+1)); done
kill -KILL $w) >/dev/null 2>&1 & t=$!
wait $w; c=$?; kill $t 2>/dev/null; exit $c"""


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
    """How the sockets begin by which it is reached there; each connection has its own, for its owner alone."""

    @property
    def settings(self) -> LaunchSettings:
        """The launch's settings, with this host's own in the place of those for all."""
        own = self.host.model_dump(exclude={"host"}, exclude_defaults=True)
        return self.request.settings.model_copy(update=own)

    def connect(self, attempt: int) -> list[str]:
        """Return what opens a connection, and keeps it while its input is open."""
        seconds = self.settings.ssh.connect_seconds
        master = ("-M", "-S", str(self.control), "-o", "ControlPersist=no", "-o", f"ConnectTimeout={seconds}")
        script = _CONNECTED.format(ready=shlex.quote(READY), socket=shlex.quote(self._socket(attempt)))
        return self._ssh(master, [script])

    def tunnel(self, attempt: int) -> list[str]:
        """Return what opens the way back to the coordinator over the connection."""
        way = ("-R", f"{self._socket(attempt)}:{self.coordinator}")
        return [*self._base(), "-S", str(self.control), "-O", "forward", *way, "--", self.host.host]

    def version(self) -> list[str]:
        """Return what asks over the connection for the version of the program there."""
        return self._over_it([called(self.settings, ["--version"])])

    def work(self, attempt: int) -> list[str]:
        """Return what works there over the connection, for as long as its input is open."""
        arguments = [f"--coordinator=unix:{self._socket(attempt)}", f"--name={self.host.name}"]
        request = replace(self.request, settings=self.settings)
        call = called(self.settings, ["work", *arguments, *request.work_arguments()])
        return self._over_it([_TIED.format(call=call, seconds=STOP_SECONDS)])

    def disconnect(self) -> list[str]:
        """Return what ends a connection that nobody holds any more."""
        return [*self._base(), "-S", str(self.control), "-O", "exit", "--", self.host.host]

    def _socket(self, attempt: int) -> str:
        return f"{self.remote}-{attempt}.sock"

    def _over_it(self, lines: Iterable[str]) -> list[str]:
        """Return what runs lines of sh there, over the connection or, where that has gone, not at all."""
        own = ("-S", str(self.control), "-o", "ControlMaster=no", "-o", "ProxyCommand=false")
        return self._ssh(own, [*prepared(self.settings), *lines])

    def _ssh(self, options: Iterable[str], lines: Iterable[str]) -> list[str]:
        script = "\n".join(lines)
        return [*self._base(), *options, "--", self.host.host, f"exec sh -c {shlex.quote(script)}"]

    def _base(self) -> list[str]:
        config = self.request.settings.ssh.config
        return [
            *("ssh", "-a", "-x", "-T"),
            *(("-F", str(Path(config).expanduser().absolute())) if config else ()),
            *(word for option in _OPTIONS for word in ("-o", option)),
        ]
