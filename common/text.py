"""Text and values of others, as they may stand in a message or a log."""

import reprlib
from collections.abc import Iterable

_REPR = reprlib.Repr()
_REPR.maxstring = 200

_MOST_REASON = 1000


def quoted(value: object) -> str:
    """Return a `repr` of bounded length: names and values in errors come from the sender."""
    try:
        return _REPR.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "<a number of thousands of digits>"


def printable(text: str) -> str:
    """Return others' text as it may stand in a log: one line, without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)


def brief(reason: str) -> str:
    """Return why something failed, as long as it travels and is kept: it may quote anything."""
    return reason[:_MOST_REASON]


def kind(value: object) -> str:
    """Return the type of a value, for an error."""
    name = type(value).__name__
    return f"{name} of {len(value)}" if isinstance(value, tuple | list) else name


def told_once(texts: Iterable[tuple[str, str]]) -> list[str]:
    """Return texts in alphabetical order, of those that are alike the first, with how many more there are.

    Args:
        texts: (what those that are alike have in common, the text).
    """
    alike: dict[str, set[str]] = {}
    for common, text in texts:
        alike.setdefault(common, set()).add(text)
    return sorted(
        min(each) + (f" (and {len(each) - 1} more alike)" if len(each) > 1 else "") for each in alike.values()
    )
