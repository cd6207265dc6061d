"""What `[launch.ssh]` says: which hosts, and how each of them is used."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.tables import explained
from lotteryfl.common.section import Count, Section
from lotteryfl.launching.values import Program

_HOST = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,63}@)?(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
)
"""USER@HOST, HOST, or an address in brackets: never an option of ssh, nor anything that a shell would take for more."""


def _host(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise ValueError(f"ssh.hosts: {host!r}: expected HOST, USER@HOST or an alias of the ssh configuration")
    return host


def _named(host: Any) -> Any:
    return {"host": host} if isinstance(host, str) else host


def _listed(hosts: Any) -> Any:
    return [host.strip() for host in hosts.split(",")] if isinstance(hosts, str) else hosts


def _once(hosts: "tuple[HostSettings, ...]") -> "tuple[HostSettings, ...]":
    names = [host.name for host in hosts]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"ssh.hosts: {name} is given {names.count(name)} times")
    return hosts


class HostSettings(Section):
    """One host; what it does not say is as for all."""

    host: Annotated[str, AfterValidator(_host)]
    """As ssh is told it."""
    devices: str = ""
    """In the place of `devices`; '': as that says."""
    workers_per_device: Annotated[int, Field(ge=1)] | Literal["auto", ""] = ""
    """In the place of `workers_per_device`; '': as that says."""
    data_dir: str = ""
    """In the place of `data_dir`; '': as that says."""
    program: Program = ""
    """In the place of `program`; '': as that says."""

    @property
    def name(self) -> str:
        """What it is called in names of workers and of logs."""
        return self.host.replace("[", "").replace("]", "").replace(":", "-")


class SSHSettings(Section):
    """Which hosts, and how they are reached."""

    hosts: Annotated[
        tuple[Annotated[HostSettings, BeforeValidator(_named)], ...], BeforeValidator(_listed), AfterValidator(_once)
    ] = ()
    """Names, or sections with keys of a host's own; on a command line names with commas between them."""
    hosts_file: str = ""
    """A file of more of them, one a line: a name, and keys of its own as KEY=VALUE; '': there is none."""
    config: str = ""
    """A configuration file of ssh, in the place of the usual ones, as `ssh -F` takes it; '': the usual ones."""
    any_version: bool = False
    """Hosts may have another version of the program than this machine, as long as it speaks the same protocol."""
    connect_seconds: Count = 20
    """How long one attempt at a connection may take."""
    reconnect_seconds: Count = 600
    """For how long a host that has gone is tried again before it is given up; the run goes on with the others."""

    def all_hosts(self) -> tuple[HostSettings, ...]:
        """Return the hosts of the list and those of the file.

        Raises:
            LotteryFLError: there are none, the file cannot be read, or a line of it is wrong.
        """
        hosts = (*self.hosts, *(_read(Path(self.hosts_file).expanduser()) if self.hosts_file else ()))
        if not hosts:
            raise LotteryFLError(
                "ssh.hosts: names no host: expected some there, by --with ssh.hosts=gpu1,gpu2 or in a file"
            )
        with explained(SSHSettings, self.hosts_file or "ssh.hosts"):
            return SSHSettings.model_validate({"hosts": hosts}).hosts


def _read(path: Path) -> list[HostSettings]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LotteryFLError(f"ssh.hosts_file = {str(path)!r}: cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            name, *keys = shlex.split(line, comments=True) or [""]
        except ValueError as error:
            raise LotteryFLError(f"{path}, line {number}: {error}") from None
        if not name:
            continue
        table = {"host": name}
        for key in keys:
            word, _, value = key.partition("=")
            table[word] = value
        with explained(HostSettings, f"{path}, line {number}"):
            found.append(HostSettings.model_validate(table))
    return found
