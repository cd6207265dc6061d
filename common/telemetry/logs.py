"""What the program says on stderr, in one place: in which format, from which level on, and with what it is about.

Whoever logs asks `logging` for a logger, as anywhere; what it is about (`common.telemetry.about`) comes with the line.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.telemetry import tracing
from lotteryfl.common.telemetry.about import NAMES, fields
from lotteryfl.common.text import printable

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")

OWN_WORD = "lotteryfl: "
"""What a line in text begins with by which the program says why it ends."""

_TAIL_BYTES = 64 << 10

_OURS = logging.getLogger("lotteryfl")
_ATTENDANCE = logging.getLogger("lotteryfl.coordinator.attendance")
_SAID = logging.getLogger("lotteryfl.said")
"""What a command itself says to who has called it: always, whatever the level."""


class LogSettingError(LotteryFLError):
    """A format or a level is none."""

    exit_code = 2


def set_up(form: str, level: str, usual: str = "warning") -> None:
    """Have this process write what it says.

    Args:
        form: one of FORMATS.
        level: one of LEVELS; '': the usual one, beside which it is always told who comes and goes.
        usual: level of the command.

    Raises:
        LogSettingError: naming what is none of these.
    """
    _HANDLER.setFormatter(JsonLines() if form == "json" else TextLines("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[_HANDLER], level=logging.WARNING)
    _SAID.setLevel(logging.INFO)
    if is_json():
        _leave_nothing_to_python()
    _check("format", form, FORMATS)
    if level:
        _check("level", level, LEVELS)
    _OURS.setLevel((level or usual).upper())
    if not level:
        _ATTENDANCE.setLevel(logging.INFO)


def tell_more() -> None:
    """Log every assignment, if that is not logged anyway."""
    _OURS.setLevel(min(_OURS.getEffectiveLevel(), logging.INFO))


def is_json() -> bool:
    """Tell whether each line on stderr is to be an object."""
    return isinstance(_HANDLER.formatter, JsonLines)


def say(text: str, level: int = logging.INFO) -> None:
    """Say something to who has called the command; an error is what it ends with."""
    _SAID.log(level, "%s", text)


# -- lines of processes that this one has started


def as_text(line: str) -> str:
    """Return a line of such a process as it would be in text."""
    said = _parsed(line)
    return line if said is None else _as_said(said["message"], said["logger"], said["level"])


def last_line(log: Path, begin: int = 0) -> str:
    """Return the last line of such a process's log as it would be in text; '': it has none.

    Args:
        log: the file, of any length.
        begin: bytes of it that were there before, and do not count.
    """
    return next(reversed(_last_lines(log, begin)), "")


def last_error(log: Path) -> str:
    """Return the last reason for an end in such a process's log, without `OWN_WORD`; '': it has none."""
    said = (line for line in reversed(_last_lines(log)) if line.startswith(OWN_WORD))
    return next(said, "").removeprefix(OWN_WORD)


def _last_lines(log: Path, begin: int = 0) -> list[str]:
    """Return the lines at the end of a log; the first may be cut."""
    try:
        with log.open("rb") as file:
            file.seek(max(begin, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode(errors="replace").strip().splitlines()
    except OSError:
        return []
    return [as_text(line) for line in lines]


def from_place(line: str, place: str) -> str:
    """Return a line of such a process as it is passed on: in the format of this one, with its place."""
    if not is_json():
        return f"{place}: {line}"
    said = _parsed(line) or _line(datetime.now(UTC), "INFO", "lotteryfl.output", line)
    return json.dumps({**said, "place": place})


def _parsed(line: str) -> dict[str, Any] | None:
    """Return what a line in JSON says; None: it is none of ours."""
    try:
        found = json.loads(line) if line.startswith("{") else None
    except (ValueError, RecursionError):
        return None
    ours = isinstance(found, dict) and all(isinstance(found.get(key), str) for key in ("level", "logger", "message"))
    return found if ours else None


def _as_said(message: str, logger: str, level: str) -> str:
    return f"{OWN_WORD}{message}" if logger == _SAID.name and level == "ERROR" else message


# -- how lines are written


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the time: above the progress, while a terminal shows that."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self.setStream(sys.stderr)
        super().emit(record)


class TextLines(logging.Formatter):
    """Lines without control characters, for people: what they say may be the other side's words."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a line; of what a command says, only that."""
        if record.name == _SAID.name:
            return _as_said(record.getMessage(), record.name, record.levelname)
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return what comes before a traceback."""
        return printable(super().formatMessage(record))


class JsonLines(logging.Formatter):
    """One object a line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object; a traceback is one of its fields."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line = _line(moment, record.levelname, record.name, record.getMessage())
        found = fields()
        for name in NAMES:
            if name in found:
                value = found[name]
                line[name] = printable(value) if isinstance(value, str) else value
        if under_way := tracing.here():
            line["trace_id"], line["span_id"] = f"{under_way.trace_id:032x}", f"{under_way.span_id:016x}"
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _line(moment: datetime, level: str, logger: str, message: str) -> dict[str, str | int]:
    """Return what every object has; a message is one line without control characters, as in text."""
    time = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"time": time, "level": level, "logger": logger, "message": printable(message)}


def _leave_nothing_to_python() -> None:
    """Have warnings and what nobody catches, which Python would write as text, be lines as all others."""
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a library's line that cannot be formatted is none

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _OURS.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))

    def uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
        if found.exc_value is not None:
            uncaught(found.exc_type, found.exc_value, found.exc_traceback)

    def unraisable(found: Any) -> None:  # sys.UnraisableHookArgs is a name for type checkers alone
        if found.exc_value is not None:
            uncaught(found.exc_type, found.exc_value, found.exc_traceback)

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, uncaught_in_thread, unraisable


def _check(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        expected = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
        raise LogSettingError(f"--log-{what} {printable(value[:80])!r}: expected {expected}")


_HANDLER = _ToStderr()
