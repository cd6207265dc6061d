"""Sets of clients as people write them: 0-9 or 0,3,7-9."""

import re
from collections.abc import Collection

_PART = re.compile(r"\s*(\d{1,7})(?:-(\d{1,7}))?\s*", re.ASCII)


def parse_clients(text: str) -> frozenset[int]:
    """Return the clients that the text names.

    Raises:
        ValueError: it is not numbers and ranges.
    """
    clients: set[int] = set()
    for part in text.split(","):
        numbers = _PART.fullmatch(part)
        if not numbers:
            raise ValueError(f"{text!r}: expected numbers and ranges, as in 0-9 or 0,3,7-9")
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if last < first:
            raise ValueError(f"{part!r}: an empty range")
        clients.update(range(first, last + 1))
    return frozenset(clients)


def format_clients(clients: Collection[int]) -> str:
    """Return the shortest text that `parse_clients` reads back to these clients, in order."""
    ranges: list[tuple[int, int]] = []
    for client in sorted(clients):
        if ranges and client == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], client
        else:
            ranges.append((client, client))
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)
