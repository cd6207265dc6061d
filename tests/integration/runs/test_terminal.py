"""On a terminal a run shows a bar that moves."""

import os
import pty
import re
import subprocess
from pathlib import Path

from tests.support.processes import PROGRAM
from tests.support.runs import Write
from tests.support.waiting import DEADLINE


def test_a_terminal_gets_a_bar_and_a_line_for_every_round(tmp_path: Path, write: Write) -> None:
    """The bar is there from the first moment, the first round's line with the first round."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [PROGRAM, "simulate", write(), "--run-dir", "run"],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "160"},
        start_new_session=True,
    ) as process:
        os.close(theirs)
        text = _read_all(ours)
        assert process.wait(DEADLINE) == 0, text
    os.close(ours)
    assert "\x1b[" in text
    assert "━" in text
    assert "Traceback" not in text
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    for name in ("round 1/3: 3 clients", "round 2/3: 3 clients", "round 3/3: 3 clients", "every client, once more"):
        assert sum(line.startswith(name) for line in lines) == 1, name
    assert any(re.match(r"round 3/3 ━+ 0/0 clients, 0 in flight", line) for line in lines)
    assert any(line.startswith("mean") for line in lines)


def _read_all(descriptor: int) -> str:
    chunks = []
    while True:
        try:
            chunk = os.read(descriptor, 4096)
        except OSError:  # the terminal's other end is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks).decode()
