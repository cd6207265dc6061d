"""Clients and workers by the dozen, in a line that has an end."""

from collections.abc import Sequence

MOST_TOLD = 100
"""Clients, or workers, that a status or a summary names: a message has an end."""

_MOST_NAMED = 10


def clients_named(clients: Sequence[int], total: int | None = None) -> str:
    """Return clients as a line names them, the first ten by number.

    Args:
        clients: by number, at least one.
        total: how many there are, where these are not all.
    """
    others = (len(clients) if total is None else total) - len(clients[:_MOST_NAMED])
    named = ", ".join(map(str, clients[:_MOST_NAMED]))
    return f"client{'s'[: len(clients) > 1]} {named}{f' and {others} more' if others else ''}"


def cut(lines: Sequence[str], most: int, total: int | None = None) -> list[str]:
    """Return the first lines, and how many are left out.

    Args:
        lines: what there is, or the first of it.
        most: how many are kept.
        total: how many there are, where these are not all.
    """
    others = (len(lines) if total is None else total) - len(lines[:most])
    return [*lines[:most], f"and {others} more"] if others else list(lines)
