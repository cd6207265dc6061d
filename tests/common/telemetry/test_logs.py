"""What is read at the end of logs of other processes, of any length and in both formats."""

import json
from pathlib import Path

import pytest

from lotteryfl.common.telemetry.logs import last_error, last_line

ERROR = "lotteryfl: no worker is left"
AS_JSON = json.dumps({"level": "ERROR", "logger": "lotteryfl.said", "message": "no worker is left"})


@pytest.mark.parametrize("line", [ERROR, AS_JSON])
def test_the_last_word_of_a_long_log_is_found(line: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join([*["ü" * 1000] * 200, line]) + "\n\n")
    assert last_line(log) == ERROR
    with log.open("a") as file:
        file.write("sleeping\n")
    assert last_line(log) == "sleeping"
    assert last_error(log) == "no worker is left"


def test_what_was_there_before_does_not_count(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert (last_line(log), last_error(log)) == ("", "")
    log.write_text(f"{ERROR}\n")
    assert last_line(log, begin=log.stat().st_size) == ""
