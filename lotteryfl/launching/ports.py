"""Ports of the machine that this runs on."""

import secrets
import socket
from contextlib import suppress

from lotteryfl.common.errors import LotteryFLError

_PORTS = range(20000, 32768)
"""Below those that connections get by themselves."""
_PROBE_SECONDS = 1.0


def free_port(setting: str) -> int:
    """Return a port that nobody listens at, and that no connection gets meanwhile.

    Args:
        setting: by which people name one, for where there is none.

    Raises:
        LotteryFLError: there is none.
    """
    for port in secrets.SystemRandom().sample(_PORTS, 100):
        with suppress(OSError), socket.create_server(("", port)):
            return port
    raise LotteryFLError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}: name one by {setting}")


def listens(port: int) -> bool:
    """Tell whether somebody listens at a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), _PROBE_SECONDS):
            return True
    except OSError:
        return False
