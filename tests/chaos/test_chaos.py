"""Real processes, killed, stopped, cut off and told of full disks at every point: the run ends with the same bits.

Where a coordinator dies at a point of its own, the power is cut too: what was not synced may be lost.
`make chaos` runs all of it and prints what it took to recover.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import tomli_w
import torch

from lotteryfl.common.experiment.experiment import load
from lotteryfl.common.faults import SETUP_POINTS, Fault
from lotteryfl.common.tasks import load_task
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.rounds.setup import create_run
from tests.chaos.cluster import COORDINATOR, LEASE_SECONDS, RUN, Cluster, History, Outside, Struck
from tests.chaos.promises import check_promises, repeated
from tests.chaos.schedule import coordinator_faults, outside_faults, worker_faults
from tests.support.bench import silent
from tests.support.paths import ROOT

TASK = Path(__file__).with_name("chaos_task.py")
FAULTS = 200
"""At least so many happen in `make chaos`."""

MOST_RUNS = 24
EXPERIMENT: dict[str, Any] = {
    "seed": 11,
    "rounds": 6,
    "clients": 6,
    "clients_per_round": 6,
    "task": {"name": str(TASK)},
    "training": {"epochs": 4, "batch_size": 8, "lr": 0.02},
    "strategy": {"prune_rate": 0.1, "target_density": 0.3, "accuracy_threshold": 0.0},
    "round": {"lease": LEASE_SECONDS, "max_attempts": 1000},
}
"""Every client prunes in every round, so that there is always a new mask to write."""


def lotteryfl(*arguments: object, cwd: Path) -> None:
    """Call the program; it must succeed."""
    command = [sys.executable, "-m", "lotteryfl", *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


class Undisturbed(NamedTuple):
    """An experiment, and its run in one process without any fault."""

    file: Path
    run: Path


def undisturbed(folder: Path, **changes: Any) -> Undisturbed:
    """Run EXPERIMENT with changes."""
    file = folder / "experiment.toml"
    file.write_text(tomli_w.dumps(EXPERIMENT | changes))
    experiment = load(file)
    with create_run(folder / "undisturbed", experiment, (str(TASK),)) as run:
        Simulation(run, load_task(experiment, (str(TASK),)), torch.device("cpu")).run(silent)
        write_summary(run)
    return Undisturbed(file, folder / "undisturbed")


@dataclass
class Report:
    """What all runs together have survived."""

    histories: list[History] = field(default_factory=list)
    repeated: int = 0
    assignments: int = 0

    @property
    def faults(self) -> list[Struck]:
        return [fault for history in self.histories for fault in history.faults]

    def lines(self) -> list[str]:
        restarts = sum(history.restarts for history in self.histories)
        return [
            f"faults survived: {len(self.faults)} in {len(self.histories)} runs, {restarts} processes started again",
            f"assignments repeated: {self.repeated}, beside {self.assignments} that counted",
            "seconds to recover, from a fault to the next result of who was struck:",
            f"  with nothing else struck meanwhile: {self._recovery(alone=True)}",
            f"  of all, others meanwhile or not:    {self._recovery(alone=False)}",
        ]

    def _recovery(self, *, alone: bool) -> str:
        found = sorted(pair for history in self.histories for pair in history.recoveries(alone=alone))
        (worst, fault), median = found[-1], statistics.median(seconds for seconds, _ in found)
        return f"median {median:.1f}, worst {worst:.1f} ({fault.victim}, {fault.what}), of {len(found)}"


def survive(
    folder: Path,
    expected: Undisturbed,
    plans: Mapping[str, Sequence[Fault]],
    outside: Sequence[Outside],
    workers: int,
    random: Random,
    report: Report,
) -> History:
    """Run the experiment under faults, and check it."""
    texts = {name: [str(fault) for fault in faults] for name, faults in plans.items()}
    with Cluster(folder, expected.file, TASK, workers, texts, random) as cluster:
        cluster.run(outside)
    if not (folder / RUN / "summary.json").exists():  # killed after the last commit
        lotteryfl("run", expected.file, "--run-dir", RUN, cwd=folder)
    assert cluster.history.acks, "no worker was told of a result"
    check_promises(folder / RUN, expected.run, cluster.history.acks)
    again, total = repeated(folder / RUN)
    report.histories.append(cluster.history)
    report.repeated += again
    report.assignments += total
    return cluster.history


FEW_ON_THE_COORDINATOR = (
    *("lease-written:stop@2", "results-renamed:delay@3", "result-recorded:die@3"),
    *("ack-sending:lose@2", "models-renamed:stop@2", "round-committed:cut@1"),
)
FEW_ON_WORKERS = (
    ("chunk-middle-sent:cut@1", "ack-received:lose@2", "ack-received:cut@4"),
    ("assignment-received:stop@2", "chunk-first-sent:delay@1", "chunk-last-sent:stop@3"),
)
FEW_OUTSIDE = [Outside("worker-1", "cut"), Outside("worker-2", "kill"), Outside("worker-1", "stall")]


def test_a_few_faults_of_every_kind(tmp_path: Path) -> None:
    plans = {f"worker-{number}": list(map(Fault.parse, few)) for number, few in enumerate(FEW_ON_WORKERS, start=1)}
    plans[COORDINATOR] = list(map(Fault.parse, FEW_ON_THE_COORDINATOR))
    expected, report = undisturbed(tmp_path, rounds=4, clients=4, clients_per_round=4), Report()
    random = Random(7)  # noqa: S311 - faults are no secrets
    survive(tmp_path, expected, plans, FEW_OUTSIDE, 2, random, report)
    assert len(report.faults) >= 12, report.faults


CUTS = tuple(f"{point}:die@1" for point in (*SETUP_POINTS, "results-renamed", "masks-synced", "round-committed"))
"""Power cuts: all the others are among the two hundred faults."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_power_is_cut_at_every_step_of_a_set_up(tmp_path: Path) -> None:
    expected, report = undisturbed(tmp_path, rounds=3, clients=4, clients_per_round=4), Report()
    plans = {COORDINATOR: [*map(Fault.parse, CUTS), Fault("models-renamed", "die", 2)]}
    random = Random(7)  # noqa: S311 - faults are no secrets
    (folder := tmp_path / "cut").mkdir()
    history = survive(folder, expected, plans, (), 2, random, report)
    assert history.power_cuts == len(CUTS) + 1
    assert {fault.what for fault in report.faults} == {*CUTS, "models-renamed:die@2"}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_hundred_faults_at_every_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = Random(2024)  # noqa: S311 - faults are no secrets
    names = [f"worker-{number}" for number in range(1, 4)]
    waiting = {COORDINATOR: coordinator_faults(), "worker": worker_faults()}
    for faults in waiting.values():
        random.shuffle(faults)
    report, same = Report(), undisturbed(tmp_path)
    while any(waiting.values()) or len(report.faults) < FAULTS:
        number = len(report.histories) + 1
        assert number <= MOST_RUNS, f"these did not happen: {waiting}"
        (folder := tmp_path / f"run-{number}").mkdir()
        plans = {COORDINATOR: waiting[COORDINATOR][:10]}
        plans |= {name: waiting["worker"][place::3][:3] for place, name in enumerate(names)}
        history = survive(folder, same, plans, outside_faults(12, names, random), 3, random, report)
        with capsys.disabled():
            sys.stdout.write(f"\nrun {number}: {len(history.faults)} faults in {history.seconds:.0f} s, the same bits")
        for side, faults in waiting.items():
            happened = {
                fault.what for fault in history.faults if (fault.victim == COORDINATOR) == (side == COORDINATOR)
            }
            waiting[side] = [fault for fault in faults if str(fault) not in happened]
    with capsys.disabled():
        sys.stdout.write("\n\n" + "\n".join(report.lines()) + "\n")
