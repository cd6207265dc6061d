"""Tables within tables as a single one."""

from collections.abc import Iterator, Mapping
from typing import Any


def flattened(table: Mapping[str, Any], separator: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is no table, in order, under the keys that lead to it.

    Args:
        table: it, with others in it.
        separator: between two keys.
        prefix: of every key.
    """
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flattened(value, separator, f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value
