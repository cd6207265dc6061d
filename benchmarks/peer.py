"""`make bench-peer`: whole rounds beside Flower's, as its users and ours start them, in turn; writes PEER.md.

Theirs is `start_server` and `start_client` with FedAvg as it is and clients that add a constant to every array; ours is
`lotteryfl run` with workers that train next to nothing: every lease and result is on disk, every byte checked, every
model tested three times. A round is from one commit, or beginning, to the next; the first one is left out.
"""

import argparse
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import ballast
from benchmarks.coordinators import TASK
from benchmarks.harness import Row, Spread, at_least, at_most, table, times_less
from benchmarks.inputs import MODELS
from benchmarks.results import machine
from benchmarks.started import ROOT, Memory, Started
from lotteryfl.common.experiment.experiment import to_toml, validate

PATH = Path(__file__).with_name("PEER.md")
DENSE, SPARSE = "dense", "at density 0.1"
STRATEGIES: dict[str, dict[str, Any]] = {
    DENSE: {"name": "fedavg"},
    SPARSE: {"prune_rate": 0.9, "target_density": 0.1, "accuracy_threshold": 0.0},
}
MEGABYTES = 500
"""The goal of the coordinator's memory."""

_INTRODUCTION = """\
# Beside a peer

`make bench-peer`, {date}: {machine}, flwr {version}. Load average at the end: {load:.1f}.

Seconds of a whole round, ours beside Flower's (`start_server` and `start_client`, FedAvg as it is, clients that add a
constant to every array), in turn on one machine: median (smallest to largest), the first round of every start left out.
Both move 62 float32 arrays of the same shapes, at 11 M those of ResNet-18. Ours are on disk before anything is
acknowledged; Flower's are in memory. The coordinator's memory is what was resident at its peak, pages of libraries and
other mapped files included; beside it, without these, what was seen every 50 ms.

{met} of {goals} goals are met.

"""


@dataclass(frozen=True)
class Case:
    """How many clients move which model, and how many times as fast as Flower's they are to be."""

    model: str
    clients: int
    goals: Mapping[str, float]


@dataclass(frozen=True)
class Sizes:
    """The cases, and how often."""

    cases: tuple[Case, ...]
    rounds: int
    """Of every start: the first is left out."""
    turns: int


FULL = Sizes(
    (
        Case("1 M in 62 tensors", 2, {DENSE: 2.5}),
        Case("11 M", 2, {DENSE: 5, SPARSE: 8}),
        Case("11 M", 8, {DENSE: 6, SPARSE: 10}),
    ),
    rounds=5,
    turns=3,
)
QUICK = Sizes((Case("20 k in 62 tensors", 2, {DENSE: 2.5}),), rounds=3, turns=1)


class Outcome(NamedTuple):
    """What one start came to."""

    seconds: tuple[float, ...]
    """Of every round but the first."""
    memory: Memory
    """Of the coordinator."""


def rows(sizes: Sizes, python: Path) -> list[Row]:
    """Seconds of a round and megabytes, of every case.

    Args:
        sizes: what is measured.
        python: that has flwr.
    """
    return [row for case in sizes.cases for row in _rows(sizes, case, python)]


def _rows(sizes: Sizes, case: Case, python: Path) -> list[Row]:
    found: dict[str, list[Outcome]] = {name: [] for name in ("theirs", *STRATEGIES)}
    for _ in range(sizes.turns):
        found["theirs"].append(theirs(case, sizes.rounds, python))
        for name in STRATEGIES:
            found[name].append(ours(case, sizes.rounds, STRATEGIES[name]))
    seconds = {name: Spread(sum((one.seconds for one in some), ())) for name, some in found.items()}
    resident = {name: Spread(tuple(one.memory.resident for one in some)) for name, some in found.items()}
    own = {name: Spread(tuple(one.memory.own for one in some)) for name, some in found.items()}
    rows = []
    for name in STRATEGIES:
        label = f"{case.model} × {case.clients}, {name}"
        goal = at_least(case.goals[name]) if name in case.goals else None
        rows.append(times_less(f"{label}: a round", seconds[name], seconds["theirs"], "Flower", "s", goal))
        memory, bound = f"{label}: coordinator's memory", at_most(MEGABYTES, of="ours")
        rows.append(times_less(memory, resident[name], resident["theirs"], "Flower", "MB", bound))
        rows.append(times_less(f"{memory}, no file's", own[name], own["theirs"], "Flower", "MB"))
    return rows


def ours(case: Case, rounds: int, strategy: Mapping[str, Any]) -> Outcome:
    """Run `lotteryfl run`, and read of its run directory when each round was committed."""
    experiment = validate(
        {
            "rounds": rounds,
            "clients": case.clients,
            "clients_per_round": case.clients,
            "task": {"name": TASK},
            "training": {"epochs": 1},
            "strategy": strategy,
        },
        "benchmark",
    )
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder) / "experiment.toml", Path(folder) / "run"
        file.write_text(to_toml(experiment), encoding="utf-8")
        options = ["--workers", str(case.clients), "--task", TASK, "--run-dir", str(run)]
        environment = {ballast.SIZE: case.model, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "lotteryfl", "run", str(file), *options]
        memory = Started(Path(folder) / "said", command, environment).memory_until_end()
        with closing(sqlite3.connect(run / "run.db")) as database:
            query = "SELECT 86400 * julianday(committed_at) FROM rounds WHERE round BETWEEN 1 AND ? ORDER BY round"
            committed = [at for (at,) in database.execute(query, (rounds,))]
    return Outcome(tuple(end - start for start, end in pairwise(committed)), memory)


def theirs(case: Case, rounds: int, python: Path) -> Outcome:
    """Run a server and clients of Flower's."""
    shapes = json.dumps([list(tensor.shape) for tensor in MODELS[case.model]().parameters()])
    with socket.create_server(("127.0.0.1", 0)) as free:
        host, port = free.getsockname()
    command, environment = [str(python), str(ROOT / "benchmarks" / "flower.py")], {"FLWR_TELEMETRY_ENABLED": "0"}
    address, one_more = f"{host}:{port}", str(rounds + 1)  # where a round ends, the next one begins
    with tempfile.TemporaryDirectory() as folder, ExitStack() as started:

        def start(name: str, *arguments: str) -> Started:
            process = Started(Path(folder) / name, [*command, *arguments], environment)
            started.callback(process.stop)
            return process

        server = start("server", "server", address, one_more, str(case.clients), shapes)
        server.wait_for_port(host, port)
        for number in range(case.clients):
            start(f"client-{number}", "client", address)
        memory = server.memory_until_end()
        begun: list[float] = json.loads(server.lines()[-1])
    return Outcome(tuple(end - start for start, end in pairwise(begun))[1:], memory)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer", description="Beside Flower.")
    parser.add_argument("python", type=Path, help="a Python that has flwr")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, and nothing else")
    options = parser.parse_args()
    asked = [str(options.python), "-c", "from importlib.metadata import version; print(version('flwr'))"]
    answered = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - the caller's own
    if answered.returncode:
        parser.error(f"{options.python}: has no flwr: {answered.stderr.strip().splitlines()[-1]}")
    found = rows(QUICK if options.quick else FULL, options.python)
    print(table(found))
    if not options.quick:
        goals = [row for row in found if row.goal]
        head = _INTRODUCTION.format(
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            machine=machine(),
            version=answered.stdout.strip(),
            load=os.getloadavg()[0],
            met=sum(bool(row.met) for row in goals),
            goals=len(goals),
        )
        PATH.write_text(f"{head}{table(found, 'github')}\n", encoding="utf-8")
        print(f"written: {PATH}")


if __name__ == "__main__":
    main()
