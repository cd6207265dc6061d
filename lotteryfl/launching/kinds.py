"""The kinds of places, each imported when it is asked for."""

from collections.abc import Callable

from lotteryfl.launching.launcher import Launcher, Request


def _ssh(request: Request, note: Callable[[str], None]) -> Launcher:
    from lotteryfl.launching.ssh.launcher import SSHLauncher

    return SSHLauncher(request, note)


def _slurm(request: Request, note: Callable[[str], None]) -> Launcher:
    from lotteryfl.launching.slurm.launcher import SlurmLauncher

    return SlurmLauncher(request, note)


KINDS: dict[str, Callable[[Request, Callable[[str], None]], Launcher]] = {
    "ssh": _ssh,
    "slurm": _slurm,
}
"""How the launcher of each is made, by the command's word for it."""
