"""TensorBoard: event files, a step of each figure for each round."""

import json
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lotteryfl.server.results.trackers.figures import Figures, Final
from lotteryfl.server.results.trackers.tracker import Tracker

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

_EVENTS = "events.out.tfevents.*"


class TensorBoard(Tracker):
    """A folder of the run's name. What is there is read from its own files: a killed process leaves no double.

    TensorBoard's own writer, not torch's: importing torch would take seconds and hundreds of megabytes beside the run.
    """

    kind = "tensorboard"
    module = "tensorboard"
    _writer: "EventFileWriter | None" = None

    @classmethod
    def usual_place(cls, path: Path) -> str:
        """Beside the run."""
        return str(path.resolve().parent / "tensorboard")

    def connect(self) -> None:
        """Read what is there, and begin a file."""
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if self._writer is not None:
            self._writer.close()
        own = self._folder.glob(f"{_EVENTS}{self._suffix}")
        events = (event for file in sorted(own) for event in LegacyEventFileLoader(str(file)).Load())
        self._there = {(value.tag, event.step) for event in events for value in event.summary.value}
        self._writer = EventFileWriter(str(self._folder), filename_suffix=self._suffix)
        self._add_text("experiment", json.dumps(dict(self._run.settings), indent=2), None)

    def send(self, rounds: Sequence[Figures]) -> None:
        """Write events."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for figures in rounds:
            for step, values in figures.steps.items():
                new = [(name, value) for name, value in values.items() if (name, step) not in self._there]
                summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in new])
                self._add(summary, step, figures.at)
        self._flush()

    def finish(self, state: str, final: Final | None, last: Figures | None) -> None:  # noqa: ARG002
        """Write what the run came to, and close the file."""
        if final is not None:
            self._add_text("summary", json.dumps({**final.numbers, **final.words}, indent=2), last)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def _suffix(self) -> str:
        return f".{self._run.identity}"

    @cached_property
    def _folder(self) -> Path:
        """The run's, by its name; another run's of that name is left alone, and so is a run directory."""
        folder = Path(self._where) / self._run.name
        others = (file for file in folder.glob(_EVENTS) if not file.name.endswith(self._suffix))
        is_others = (folder / "run.db").exists() or any(others)
        return folder.with_name(f"{folder.name}-{self._run.identity}") if is_others else folder

    def _add_text(self, name: str, text: str, last: Figures | None) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        tag, step = f"{name}/text_summary", last.round if last else 0
        if (tag, step) not in self._there:
            self._add(text_pb(tag, f"```\n{text}\n```"), step, last.at if last else None)
            self._flush()

    def _add(self, summary: "Summary", step: int, at: float | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if self._writer is not None and summary.value:
            self._writer.add_event(Event(wall_time=at or time.time(), step=step, summary=summary))
            self._there |= {(value.tag, step) for value in summary.value}

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()
