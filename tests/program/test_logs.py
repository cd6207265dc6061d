"""Formats and levels of what the program says on stderr."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lotteryfl.common.telemetry import logs
from lotteryfl.common.telemetry.about import about
from lotteryfl.common.telemetry.logs import JsonLines, TextLines, as_text, from_place
from tests.support.processes import PROGRAM

LOUD = "\x1b[31mred\nsecond line\u2028ö"


def record(message: str, *arguments: object, name: str = "lotteryfl.worker", **more: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": name, "levelname": "WARNING", "msg": message, "args": arguments, **more})


def run(code: str) -> list[dict[str, Any]]:
    """Return what a process says in JSON that fails in a way of its own."""
    process = subprocess.run(
        [sys.executable, "-c", f"from lotteryfl.common.telemetry import logs\nlogs.set_up('json', '')\n{code}"],
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in process.stderr.splitlines()]


@pytest.fixture
def in_json(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = logs._HANDLER.formatter
    logs._HANDLER.setFormatter(JsonLines())
    yield
    logs._HANDLER.setFormatter(before)


# -- one object a line


def test_an_object_says_when_what_and_about_what() -> None:
    with about(run="f00", round=3, client=7, worker=LOUD, assignment="r3-c7-a1"):
        line = JsonLines().format(record("%s: lost", LOUD))
    assert line.isascii()
    assert "\n" not in line
    found = json.loads(line)
    assert datetime.now(UTC) - datetime.fromisoformat(found.pop("time")) < timedelta(minutes=5)
    assert found == {
        "level": "WARNING",
        "logger": "lotteryfl.worker",
        "message": "?[31mred?second line?ö: lost",
        "run": "f00",
        "round": 3,
        "client": 7,
        "worker": "?[31mred?second line?ö",
        "assignment": "r3-c7-a1",
    }


def test_what_is_about_nothing_has_no_such_fields() -> None:
    assert json.loads(JsonLines().format(record("begins"))).keys() == {"time", "level", "logger", "message"}


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError('a bug')",
        "import threading\nthread = threading.Thread(target=lambda: int('a bug'))\nthread.start(); thread.join()",
        "class Gone:\n    def __del__(self): raise ValueError('a bug')\nGone()",
    ],
)
def test_a_bug_is_an_object_with_its_traceback(code: str) -> None:
    (line,) = run(code)
    assert (line["level"], line["logger"]) == ("CRITICAL", "lotteryfl")
    assert line["message"].startswith("ValueError: ")
    assert "a bug" in line["message"]
    assert "Traceback (most recent call last):\n" in line["traceback"]


def test_warnings_of_libraries_are_objects() -> None:
    (line,) = run("import warnings\nwarnings.warn('is old')")
    assert (line["level"], line["logger"]) == ("WARNING", "py.warnings")
    assert "is old" in line["message"]


# -- what a command itself says


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--zzz",), "No such option '--zzz'."),
        (("--log-level=loud",), "--log-level 'loud': expected debug, info, warning or error"),
    ],
)
def test_errors_are_objects_without_a_traceback(arguments: tuple[str, ...], message: str) -> None:
    process = subprocess.run([PROGRAM, "run", "--log-format=json", *arguments], capture_output=True, text=True)
    (line,) = map(json.loads, process.stderr.splitlines())
    assert (line["level"], line["message"]) == ("ERROR", message)
    assert "traceback" not in line
    assert process.returncode in (1, 2)


@pytest.mark.parametrize(("name", "value"), [("format", "xml"), ("level", "loud")])
@pytest.mark.parametrize("by", ["option", "variable"])
def test_what_is_no_format_or_level_is_refused_in_one_line(name: str, value: str, by: str) -> None:
    expected = {"format": "text or json", "level": "debug, info, warning or error"}[name]
    arguments = [f"--log-{name}", value] if by == "option" else []
    env = {f"LOTTERYFL_LOG_{name.upper()}": value} if by == "variable" else {}
    process = subprocess.run([PROGRAM, "work", *arguments], capture_output=True, text=True, env=os.environ | env)
    assert process.stderr == f"lotteryfl: --log-{name} {value!r}: expected {expected}\n"
    assert process.returncode == 2


def test_other_commands_go_on_as_they_are() -> None:
    env = {"LOTTERYFL_LOG_FORMAT": "json", "LOTTERYFL_LOG_LEVEL": "loud"}
    process = subprocess.run([PROGRAM, "status", "nowhere"], capture_output=True, text=True, env=os.environ | env)
    assert process.stderr.startswith("lotteryfl: nowhere")


def test_in_text_what_a_command_says_is_that_alone() -> None:
    said = record("stopped; what was counted is kept", name="lotteryfl.said")
    assert TextLines("%(levelname)s %(message)s").format(said) == "stopped; what was counted is kept"
    said.levelname = "ERROR"
    assert TextLines("%(message)s").format(said) == "lotteryfl: stopped; what was counted is kept"


# -- lines of other processes


def test_a_line_of_another_process_is_text_again() -> None:
    error = JsonLines().format(record("no such task", name="lotteryfl.said", levelname="ERROR"))
    assert as_text(error) == "lotteryfl: no such task"
    assert as_text(JsonLines().format(record("%s: lost", "w"))) == "w: lost"
    for other in ("Segmentation fault", '{"message": 1}', "{", '{"a":' * 100_000, "[1]", '{"level": "INFO"}'):
        assert as_text(other) == other


def test_in_text_a_line_is_passed_on_behind_its_place() -> None:
    assert from_place("begins", "cuda:0/1") == "cuda:0/1: begins"


@pytest.mark.usefixtures("in_json")
def test_in_json_a_line_is_passed_on_with_its_place_whatever_it_is() -> None:
    theirs = JsonLines().format(record("%s: lost", "w"))
    assert json.loads(from_place(theirs, "cuda:0/1")) == json.loads(theirs) | {"place": "cuda:0/1"}
    native = json.loads(from_place(f"CUDA error {LOUD}", "cpu/2"))
    assert (native["message"], native["place"]) == ("CUDA error ?[31mred?second line?ö", "cpu/2")
    assert native.keys() == {"time", "level", "logger", "message", "place"}
