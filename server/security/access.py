"""Which clients a worker may hold, as the experiment says."""

from collections.abc import Collection

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.clientranges import format_clients
from lotteryfl.common.experiment.settings import AccessSettings
from lotteryfl.common.security.identity import Identity


class AccessError(LotteryFLError):
    """A worker wants more than it may have."""


def clients_held(
    access: AccessSettings, caller: Identity | None, asked: Collection[int] | None
) -> Collection[int] | None:
    """Return the clients that a worker holds from its registration on; None: every client.

    Args:
        access: of the experiment; if it names nobody, everyone may hold all.
        caller: who registers; None: nobody was asked.
        asked: the clients whose data the worker has; None: it says that it has all.

    Raises:
        AccessError: it may not work at all, or not for all of these.
    """
    if caller is None or not access.workers:
        return asked
    allowed = access.clients_of(caller.name)
    if allowed is None:
        raise AccessError(f"{caller.name} is not among the experiment's access.workers")
    if asked is None:
        return allowed
    if beyond := set(asked) - allowed:
        raise AccessError(f"{caller.name} may hold clients {format_clients(allowed)}, not {format_clients(beyond)}")
    return asked
