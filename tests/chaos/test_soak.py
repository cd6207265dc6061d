"""Thousands of rounds: memory, open files and threads of coordinator and workers stay as they are (`make soak`)."""

import re
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tomli_w
from tabulate import tabulate

from tests.chaos.cluster import COORDINATOR, free_port
from tests.chaos.member import Member
from tests.support.waiting import DEADLINE

TASK = Path(__file__).with_name("chaos_task.py")
ROUNDS = 2_000
SAMPLE_EVERY = 25
RESTART_EVERY = 5
"""Least rounds between the return of the worker that is restarted and its next end; each fourth is a kill."""

LEAST_RESTARTS = 10

WARM_UP = 0.2
"""Share of the rounds that is left out: caches and the allocator fill up."""

SILENT_SECONDS = 60.0
TOLERANCES = {"anonymous MB": 3.0, "open files": 1.0, "threads": 2.0}
"""What may be gained in 1,000 rounds."""

EXPERIMENT: dict[str, Any] = {
    "rounds": ROUNDS,
    "clients": 8,
    "clients_per_round": 4,
    "task": {"name": str(TASK)},
    "training": {"epochs": 1, "batch_size": 8},
    "strategy": {"prune_rate": 0.01, "target_density": 0.1, "accuracy_threshold": 0.0},
    "round": {"lease": 5.0, "max_attempts": 1000},
}
"""There is something to prune in the first 230 rounds of every client: in about 460 rounds."""


class Use(NamedTuple):
    """What a process uses, after a round."""

    round: int
    megabytes: float
    files: int
    threads: int


def use_of(pid: int, round_: int) -> Use:
    process = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    anonymous = int(status["RssAnon"].split()[0]) / 1000
    return Use(round_, anonymous, len(list((process / "fd").iterdir())), int(status["Threads"]))


@dataclass
class Soak:
    """A cluster in which one worker comes and goes, and what all others use."""

    steady: list[Member]
    restarted: Member
    uses: dict[str, list[Use]] = field(default_factory=dict)
    restarts: int = 0
    _back_at: int = 0

    def after(self, round_: int) -> None:
        """Look at everybody, and end the worker that is restarted, when it is time."""
        if round_ % SAMPLE_EVERY == 0:
            for member in self.steady:
                self.uses.setdefault(member.name, []).append(use_of(member.pid, round_))
        if not self.restarted.is_ready:
            self._back_at = round_
        elif round_ >= self._back_at + RESTART_EVERY:
            self.restarted.send(signal.SIGTERM if self.restarts % 4 else signal.SIGKILL)
            self.restarted.is_ready = False

    def look(self) -> None:
        for line in self.restarted.said.lines():
            self.restarted.is_ready |= "registered" in line
        if self.restarted.exit_code not in (None, 0):
            self.restarted.start()
            self.restarts += 1

    def slopes(self) -> dict[str, dict[str, float]]:
        """Return by member what it gains in 1,000 rounds, after the warm-up."""
        found = {}
        for name, uses in self.uses.items():
            rounds, *columns = np.array([use for use in uses if use.round > WARM_UP * ROUNDS], dtype=float).T
            gains = (float(np.polyfit(rounds / 1000, column, 1)[0]) for column in columns)
            found[name] = dict(zip(TOLERANCES, gains, strict=True))
        return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_grows_in_thousands_of_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHAOS_TASK_WIDTH", "16")
    (tmp_path / "soak.toml").write_text(tomli_w.dumps(EXPERIMENT))
    address = f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:

        def started(name: str, *arguments: object) -> Member:
            member = Member(name, arguments, tmp_path)
            stack.callback(member.kill)
            return member

        coordinator = started(COORDINATOR, "serve", "soak.toml", f"--listen={address}", "--run-dir=run")
        work = ("work", f"--coordinator={address}", f"--task={TASK}", "--device=cpu")
        *steady, last = [started(name, *work, f"--name={name}") for name in ("one", "two", "three", "four")]
        soak = Soak([coordinator, *steady], last)
        start = heard = time.monotonic()
        while coordinator.exit_code is None:
            time.sleep(0.01)
            assert time.monotonic() < heard + SILENT_SECONDS, f"no round for so long; the logs are in {tmp_path}"
            for line in coordinator.said.lines():
                if round_ := re.match(r"round (\d+)/", line):
                    heard = time.monotonic()
                    soak.after(int(round_[1]))
            soak.look()
        seconds = time.monotonic() - start
        assert coordinator.exit_code == 0
        assert [member.wait(DEADLINE) for member in steady] == [0, 0, 0]
    slopes = soak.slopes()
    table = []
    for name, gains in slopes.items():
        ends = soak.uses[name][-1]
        table.append([name, *ends[1:], *gains.values()])
    headers = ["in the end", *TOLERANCES, *(f"{what}, per 1,000 rounds" for what in TOLERANCES)]
    with capsys.disabled():
        sys.stdout.write(f"\n{ROUNDS} rounds in {seconds:.0f} s, one worker restarted {soak.restarts} times\n")
        sys.stdout.write(tabulate(table, headers, floatfmt=".2f") + "\n")
    assert soak.restarts >= LEAST_RESTARTS
    for name, gains in slopes.items():
        for what, gain in gains.items():
            assert gain <= TOLERANCES[what], f"{name}: {gain:.2f} {what} more in 1,000 rounds"
