"""What becomes of every assignment, a log line each, for `--verbose`; leases that nobody renewed are always told."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from rich.filesize import decimal

from lotteryfl.common.security.identity import name_of
from lotteryfl.common.telemetry.about import about, named_in
from lotteryfl.common.text import printable
from lotteryfl.server.store.assignments import Standing
from lotteryfl.server.store.rundb.rows import Received
from lotteryfl.server.store.traffic import Traffic

_log = logging.getLogger("lotteryfl.coordinator")

_MOST_NEWS = 10
"""Leases at once that are told to have expired; how many workers are lost, `attendance` tells."""


def note_given(granted: Sequence[Standing], withdrawn: Iterable[Standing]) -> None:
    """Log that a worker has assignments, and which of them others had, and had not begun."""
    if not _log.isEnabledFor(logging.INFO):
        return
    for before in withdrawn:
        with _about(before):
            _log.info("%s of %s: withdrawn: %s has nothing to do", before.id, _worker(before), _worker(granted[0]))
    for now in granted:
        with _about(now):
            _log.info("%s: given to %s", now.id, _worker(now))


def note_returned(done: Standing, received: Received, traffic: Traffic) -> None:
    """Log that a result counts, with its worker's seconds and the bytes of all attempts; they are flushed."""
    if _log.isEnabledFor(logging.INFO):
        down, up = (decimal(count) for count in traffic.of(done.id))
        seconds = received.metrics.seconds
        with _about(done):
            _log.info("%s: returned by %s: %.1f s of work, %s down, %s up", done.id, _worker(done), seconds, down, up)


def note_taken_back(standings: Iterable[Standing], how: str) -> None:
    """Log that assignments are not under work any more.

    Args:
        standings: how they stand now.
        how: what has happened: handed back, refused, taken back, expired. The last is news without `--verbose` too.
    """
    for number, standing in enumerate(standings):
        then = "sits the round out" if standing.state == "dropped" else "waits again"
        reason = printable(standing.reason).removeprefix(f"{how}: ")
        who, client = _worker(standing), standing.id.client
        is_news = how == "expired" and number < _MOST_NEWS
        level = logging.WARNING if is_news else logging.INFO
        with _about(standing):
            _log.log(level, "%s of %s: %s: %s; client %d %s", standing.id, who, how, reason, client, then)


def _about(standing: Standing) -> AbstractContextManager[None]:
    """Let a line say what it is about: several may be told of in one call, which was about something else."""
    return about(worker=name_of(standing.worker), **named_in(str(standing.id)))


def _worker(standing: Standing) -> str:
    return printable(name_of(standing.worker))
