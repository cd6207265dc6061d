"""How a run shows where it stands: a live line on a terminal, one plain line a round in a log."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lotteryfl.common.telemetry.about import about
from lotteryfl.common.telemetry.logs import is_json, say
from lotteryfl.common.text import printable
from lotteryfl.describe import describe_refusals, describe_round, describe_shared
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.leftout import describe_left_out


class RunDisplay(AbstractContextManager["RunDisplay"]):
    """Live progress where the console is a terminal, otherwise a line for each committed round."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_round: int | None = None
        self._shared: pb.SharedModel | None = None
        self._reason = ""
        self._advised = False
        self._aside: set[str] = set()
        self._left_out: set[int] = set()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            disable=is_json() or not console.is_terminal,
        )
        self._task = self._progress.add_task("starting", detail="", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """Print a line beside the progress."""
        if is_json():
            say(printable(text))
        else:
            self._console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def show(self, status: pb.RunStatus) -> None:
        """Show the status: a line for every round that is committed, or tried again, under our eyes."""
        if self._last_round not in (None, status.last.round):
            with about(round=status.last.round):
                self.note(describe_round(status))
        self._last_round = status.last.round
        if self._shared not in (None, status.shared):
            self.note(describe_shared(status.shared, status.score))
        self._shared = status.shared
        if status.state == pb.RunStatus.RUNNING and status.reason not in ("", self._reason):
            self.note(status.reason)
        self._reason = status.reason
        if status.advice and not self._advised:
            self._advised = True
            self.note(f"advice: {status.advice}")
        for refusals in status.refusals:
            if refusals.aside and refusals.worker not in self._aside:
                self._aside.add(refusals.worker)
                self.note(describe_refusals(refusals))
        for missing in status.left_out:
            if missing.client not in self._left_out:
                self._left_out.add(missing.client)
                self.note(describe_left_out(missing))
        # After the training rounds, every client is measured once more; then nothing is assigned.
        share = status.results / status.assignments if status.assignments else 1.0
        self._progress.update(
            self._task,
            description=f"round {min(status.round + 1, status.rounds)}/{status.rounds}",
            total=status.rounds + 1,
            completed=status.round + share,
            detail=(
                f"{status.results}/{status.assignments} clients, {len(status.in_flight)} in flight on "
                f"{status.workers} workers{_on(status)}, "
                f"{decimal(status.bytes_down)} down, {decimal(status.bytes_up)} up in all"
            ),
        )


def _on(status: pb.RunStatus) -> str:
    """Return on what kinds of devices the workers are, where any has said so."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(status.devices.items()))
    return f" ({kinds})" if kinds else ""
