"""The kinds of places, each imported when it is asked for."""

from collections.abc import Callable

from lotteryfl.launching.launcher import Launcher, Request


def _ssh(request: Request, note: Callable[[str], None]) -> Launcher:
    from lotteryfl.launching.ssh.launcher import SSHLauncher

    return SSHLauncher(request, note)


KINDS: dict[str, Callable[[Request, Callable[[str], None]], Launcher]] = {"ssh": _ssh}
"""How the launcher of each is made, by the command's word for it."""
