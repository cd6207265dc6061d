"""A run on a terminal: state, curves, workers and what has happened, as much of each as there is room for.

Nothing is said by colour alone, and whatever is others' text stands there without control characters.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from lotteryfl.common.text import printable
from lotteryfl.common.training.score import Score
from lotteryfl.describe import state_of
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.seeing.lines import doing, duration, load_of, machine_of, time_left
from lotteryfl.seeing.look import MOST_ROUNDS, Look
from lotteryfl.seeing.sparkline import sparkline
from lotteryfl.server.store.summaries import scores_of

_MOST_EVENTS = 100
_NARROW = 100
"""Columns below which a worker's machine and load are left out."""
_LEAST_ROWS = 3
_LABEL, _VALUE = 24, 12
_MEGABYTE = 1e6


class _Curve(NamedTuple):
    """One number by round."""

    name: str
    values: Sequence[float]
    spec: str
    """How one of them is written, as format() has it."""


class Screen:
    """What is drawn of the looks at one run."""

    def __init__(self, where: str, console: Console) -> None:
        """Begin with nothing seen.

        Args:
            where: the run's directory or coordinator.
            console: whose size is kept to.
        """
        self._where = where
        self._console = console
        self._rounds: deque[pb.RoundSummary] = deque(maxlen=MOST_ROUNDS)
        self._events: deque[pb.Event] = deque(maxlen=_MOST_EVENTS)

    def drawn(self, look: Look) -> RenderableType:
        """Return how the run looks now."""
        self._rounds.extend(look.rounds)
        self._events.extend(look.events)
        header = [_line(text, style) for text, style in self._header(look)]
        curves = [self._drawn_curve(curve) for curve in self._curves(look.status)]
        room = self._console.height - len(header) - len(curves) - 4  # of the headings, and a line below
        workers = look.fleet.workers if look.fleet else ()
        rows = max(_LEAST_ROWS, room // 2)
        parts: list[RenderableType] = [*header, *curves]
        if workers:
            table = self._workers(workers, rows)
            parts.append(table)
            room -= table.row_count + 2
        if self._events:
            parts.append(_line("events", "bold"))
            parts += [_line(_event(event), "") for event in list(self._events)[-max(_LEAST_ROWS, room) :]]
        return Group(*parts)

    def _header(self, look: Look) -> Iterator[tuple[str, str]]:
        status = look.status
        yield (
            f"{self._where}: {status.strategy}, {status.clients} clients: {state_of(status, is_driven=look.is_driven)}",
            "bold",
        )
        left = time_left(status)
        traffic = f"{decimal(status.bytes_down)} down, {decimal(status.bytes_up)} up"
        yield f"round {min(status.round + 1, status.rounds)}/{status.rounds}, {traffic}", ""
        if status.state == pb.RunStatus.RUNNING:
            done = f"{status.results} of {status.assignments} results, {len(status.in_flight)} in flight"
            yield f"{done}{f', about {left} left' if left else ''}", ""
        for text in (look.trouble and f"{look.trouble}; waiting for it", status.reason, status.advice):
            if text:
                yield f"! {text}", "bold"
        if status.waits and not look.fleet:
            yield from ((line, "") for line in status.waits[:_LEAST_ROWS])
        if status.goes_on and look.is_driven:
            yield status.goes_on, "dim"

    def _curves(self, status: pb.RunStatus) -> Iterator[_Curve]:
        rounds = [each for each in self._rounds if each.round <= status.rounds]  # not the last measuring
        if not rounds:
            return
        score = Score.of(status.score)
        scores = [scores_of(each, score) for each in rounds]
        yield _Curve(f"{score.name} downloaded", [each.downloaded for each in scores], score.digits)
        yield _Curve(f"{score.name} personalised", [each.personalised for each in scores], score.digits)
        losses = [each.train_loss for each in rounds]
        if any(losses):  # it is kept back where privacy asks for it
            yield _Curve("training loss", losses, ".3f")
        yield _Curve("density", [each.density for each in rounds], ".3f")
        sent = [(each.bytes_down + each.bytes_up) / _MEGABYTE for each in rounds]
        yield _Curve("megabytes", sent, ".2f")
        yield _Curve("seconds", [each.seconds for each in rounds], ".1f")

    def _drawn_curve(self, curve: _Curve) -> Text:
        finite = [value for value in curve.values if math.isfinite(value)]
        width = max(0, self._console.width - _LABEL - _VALUE - 2)
        last = format(curve.values[-1], curve.spec)
        return _line(f"{printable(curve.name)[:_LABEL]:{_LABEL}} {last:>{_VALUE}} {sparkline(finite, width)}", "")

    def _workers(self, workers: Sequence[pb.WorkerStatus], rows: int) -> Table:
        is_narrow = self._console.width < _NARROW
        table = Table(box=None, pad_edge=False, show_edge=False, expand=False)
        for name in ("worker", "heard of", *(() if is_narrow else ("on", "takes")), "is at"):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        # Who is lost or aside comes first: there may be no room for all.
        in_order = sorted(workers, key=lambda worker: not (worker.is_lost or worker.aside))
        for worker in in_order[:rows]:
            more = () if is_narrow else (machine_of(worker), load_of(worker))
            cells = (worker.machine.worker, _heard(worker), *more, _at(worker))
            table.add_row(*(Text(printable(cell)) for cell in cells))
        if (others := len(workers) - rows) > 0:
            table.add_row(f"and {others} more")
        return table


def _heard(worker: pb.WorkerStatus) -> str:
    if worker.aside:
        return "aside"
    return f"{duration(worker.silent)} ago{', LOST' if worker.is_lost else ''}"


def _at(worker: pb.WorkerStatus) -> str:
    if worker.aside:
        return worker.aside
    return "; ".join(map(doing, worker.holdings)) or "waits for work"


def _event(event: pb.Event) -> str:
    """Return an event in a line, by the clock of who looks."""
    try:
        at = datetime.fromisoformat(event.at).astimezone().strftime("%H:%M:%S")
    except ValueError:
        at = event.at
    client = f" client {event.client}" if event.HasField("client") else ""
    worker = f" {event.worker}" if event.worker else ""
    return f"{at} {event.kind}{worker}{client}: {event.text}"


def _line(text: str, style: str) -> Text:
    """Return text of anybody's as one line that is cut where the terminal ends."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")
