"""Text of others, as it may stand in a message or a log."""

import reprlib

_REPR = reprlib.Repr()
_REPR.maxstring = 200


def quoted(value: object) -> str:
    """Return a `repr` of bounded length: names and values in errors come from the sender."""
    try:
        return _REPR.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "<a number of thousands of digits>"


def printable(text: str) -> str:
    """Return others' text as it may stand in a log: one line, without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)
