"""A real sshd on loopback, whose users are this one, and what runs on such a host."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.processes import free_port
from tests.support.waiting import DEADLINE, until

_KEYGEN = shutil.which("ssh-keygen")
_SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

needs_sshd = pytest.mark.skipif(_SSHD is None or shutil.which("ssh") is None, reason="sshd or ssh is not installed")
"""Marks what needs both ends of OpenSSH."""

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
MaxStartups 100
SetEnv SSHD={folder}
"""


class SSHD:
    """One sshd, with keys of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        assert _KEYGEN is not None
        for name in ("host", "key"):
            subprocess.run([_KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        (folder / "sshd_config").write_text(_CONFIG.format(port=self.port, folder=folder))

    def aliases(self, ports: Mapping[str, int]) -> Path:
        """Return a configuration of ssh in which hosts of these names are reached at these ports."""
        kind, key = (self.folder / "host.pub").read_text().split()[:2]
        known, config = self.folder / "known", self.folder / "ssh_config"
        known.write_text("".join(f"[127.0.0.1]:{port} {kind} {key}\n" for port in {*ports.values(), self.port}))
        options = f"IdentityFile {self.folder}/key\nIdentitiesOnly yes\nUserKnownHostsFile {known}\n"
        hosts = (f"Host {name}\nHostName 127.0.0.1\nPort {port}\n{options}" for name, port in ports.items())
        config.write_text("".join(hosts))
        return config

    def processes(self) -> list[int]:
        """Return what runs there: all that a connection has started, and what that has."""
        mark = f"SSHD={self.folder}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return found

    def is_deserted(self) -> bool:
        """Whether nothing runs there any more."""
        return not self.processes()


@contextmanager
def running_sshd(folder: Path) -> Iterator[SSHD]:
    """Run one while the block does."""
    assert _SSHD is not None
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    sshd = SSHD(folder)
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([_SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        until(lambda: _answers(sshd.port) or process.poll() is not None)
        assert process.poll() is None, (folder / "sshd.log").read_text()
        yield sshd
    finally:
        process.terminate()
        process.wait(DEADLINE)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
