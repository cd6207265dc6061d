"""What is being worked on, wherever it is asked: run, round, client, worker, assignment; for logs and traces."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context

from lotteryfl.common.names import ASSIGNMENT_ID

Fields = Mapping[str, str | int]

NAMES = ("run", "round", "client", "worker", "assignment")
"""The fields, in the order in which they are written."""

_NOTHING: Fields = {}
_ABOUT: ContextVar[Fields] = ContextVar("ABOUT", default=_NOTHING)


def fields() -> Fields:
    """Return what is known of what is being worked on here."""
    return _ABOUT.get()


def bind(**found: str | int) -> None:
    """Say what is worked on from now on, in a context that is nobody else's: a call's, or one assignment's."""
    _ABOUT.set({**_ABOUT.get(), **found})


@contextmanager
def about(**found: str | int) -> Iterator[None]:
    """Say what is worked on while the block runs."""
    token = _ABOUT.set({**_ABOUT.get(), **found})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def named_in(assignment_id: str) -> dict[str, str | int]:
    """Return the fields that an assignment's id names; none, where it is no such id."""
    match = ASSIGNMENT_ID.fullmatch(assignment_id)
    if match is None:
        return {}
    return {"round": int(match[1]), "client": int(match[2]), "assignment": assignment_id}


def thread(work: Callable[[], object], name: str) -> threading.Thread:
    """Return a thread, not yet started, that knows what its maker is about; it holds up no process's end."""
    return threading.Thread(target=copy_context().run, args=(work,), name=name, daemon=True)
