"""Runs that are launched on a real Slurm come to the bits of the simulation, whatever Slurm does meanwhile."""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.slurm.conftest import Launch
from tests.support.paths import ROOT
from tests.support.processes import Gate
from tests.support.runs import Expect, assert_same_bits
from tests.support.slurmcluster import Cluster
from tests.support.waiting import until

Experiment = Callable[..., Path]

ELSEWHERE = 'hostname() { if [ -n "${SLURM_RESTART_COUNT:-}" ]; then echo 127.0.0.1; else echo localhost; fi; }'
"""A job that begins again is on another machine, as far as it tells."""


def left_behind(run_dir: Path) -> list[str]:
    """Return what a launch has left beside its run."""
    return sorted(path.name for path in run_dir.with_name(f"{run_dir.name}.launch").iterdir())


def test_a_job_on_two_nodes(experiment: Experiment, launch: Launch, expect: Expect, tmp_path: Path) -> None:
    source, run_dir = experiment(nodes=2), tmp_path / "run"
    launched = launch(source, "--run-dir", run_dir, gated=False)
    assert launched.exit_code() == 0, launched.stderr
    assert "the run has finished" in launched.stdout
    assert_same_bits(run_dir, expect(source))
    assert left_behind(run_dir) == ["logs"]
    (log,) = (tmp_path / "run.launch/logs").iterdir()
    assert log.read_text().count(": registered, on cpu") == 2


def test_a_script_of_a_dry_run_is_a_job_by_itself(
    experiment: Experiment, launch: Launch, expect: Expect, cluster: Cluster, tmp_path: Path
) -> None:
    source, run_dir = experiment(nodes=2), tmp_path / "my run"
    shown = launch(source, "--run-dir", run_dir, "--dry-run")
    assert shown.exit_code() == 0, shown.stderr
    assert not run_dir.with_name("my run.launch").exists()
    script = tmp_path / "job.sh"
    script.write_text(shown.stdout)
    (by_hand,) = (line for line in shown.stdout.splitlines() if line.startswith("# By hand: "))
    command = by_hand.removeprefix("# By hand: ").replace("sbatch THIS_FILE", f"sbatch --wait {script}")
    subprocess.run(
        ["/bin/sh", "-c", command], env=os.environ | cluster.env | {"PYTHONPATH": str(ROOT)}, check=True, timeout=100
    )
    assert_same_bits(run_dir, expect(source))
    launch_folder = tmp_path / "my run.launch"
    assert stat.S_IMODE(launch_folder.stat().st_mode) == 0o700
    assert not (launch_folder / "certs").exists()


@pytest.mark.parametrize("how", ["requeued", "preempted"])
def test_a_job_that_has_to_go_in_mid_round_goes_on(
    experiment: Experiment,
    launch: Launch,
    expect: Expect,
    gate: Gate,
    cluster: Cluster,
    tmp_path: Path,
    how: str,
) -> None:
    source, run_dir = experiment(nodes=2, lines=["--exclusive"]), tmp_path / "run"
    launched = launch(source, "--run-dir", run_dir, "--with", f"setup=['{ELSEWHERE}']")
    job = launched.said(r"job (\d+) is submitted")[1]
    launched.said(rf"look at it with: lotteryfl watch localhost:{20000 + int(job)} ")
    gate.arrival().let_go()
    gate.arrival()
    if how == "requeued":
        cluster.ask("scontrol", "requeue", job)
    else:
        cluster.ask("srun", "--partition=urgent", "--nodes=2", "--exclusive", "true")
    launched.said(rf"waiting: job {job} is PENDING \(BeginTime\)")
    gate.open()
    cluster.begin_again(job)
    assert launched.exit_code() == 0, launched.stderr
    assert_same_bits(run_dir, expect(source))
    assert cluster.field(job, "Restarts") == "1"
    assert left_behind(run_dir) == ["logs"]
    assert f"look at it with: lotteryfl watch 127.0.0.1:{20000 + int(job)} " in launched.stderr
    assert [launched.stdout.count(f"round {number}/3: ") for number in (1, 2, 3)] == [1, 1, 1]


def test_a_job_that_comes_to_its_time_limit_goes_on(
    experiment: Experiment, launch: Launch, expect: Expect, gate: Gate, cluster: Cluster, tmp_path: Path
) -> None:
    source, run_dir = experiment(nodes=1, time=2, stop_seconds=30), tmp_path / "run"
    launched = launch(source, "--run-dir", run_dir)
    job = launched.said(r"job (\d+) is submitted")[1]
    gate.arrival()
    launched.said(rf"waiting: job {job} is PENDING")
    launched.said(rf"waiting: job {job} is PENDING \(BeginTime\)")
    gate.open()
    log = (tmp_path / f"run.launch/logs/job-{job}.log").read_text()
    assert "stopped; what was under work was handed back" in log
    assert "the time limit is near: the job waits again for its turn" in log
    cluster.begin_again(job)
    assert launched.exit_code() == 0, launched.stderr
    assert_same_bits(run_dir, expect(source))
    assert cluster.field(job, "Restarts") == "1"


def test_a_job_that_loses_a_node_goes_on_with_the_others(
    experiment: Experiment, launch: Launch, expect: Expect, gate: Gate, cluster: Cluster, tmp_path: Path
) -> None:
    source, run_dir = experiment(nodes=2), tmp_path / "run"
    launched = launch(source, "--run-dir", run_dir, "--set", "round.lease=20")
    job = launched.said(r"job (\d+) is submitted")[1]
    gate.arrival()
    gate.arrival()
    cluster.ask("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=lost")
    gate.open()
    assert launched.exit_code() == 0, launched.stderr
    assert_same_bits(run_dir, expect(source))
    assert cluster.field(job, "Restarts") == "0"


def test_an_array_joins_a_coordinator_and_loses_a_job(
    experiment: Experiment, launch: Launch, expect: Expect, gate: Gate, cluster: Cluster, tmp_path: Path
) -> None:
    source, run_dir = experiment(coordinator="here", array=3, at_once=2), tmp_path / "run"
    launched = launch(source, "--run-dir", run_dir)
    job = launched.said(r"job (\d+) is submitted")[1]
    gate.arrival()
    gate.arrival()
    assert cluster.field(f"{job}_3", "JobState") == "PENDING"
    cluster.ask("scancel", f"{job}_1")
    gate.arrival()  # of the third, which has the place of the first
    gate.open()
    assert launched.exit_code() == 0, launched.stderr
    assert_same_bits(run_dir, expect(source))
    assert cluster.field(f"{job}_1", "JobState") == "CANCELLED"
    assert left_behind(run_dir) == ["logs"]


def test_an_array_goes_on_beside_a_drained_node(
    experiment: Experiment, launch: Launch, expect: Expect, gate: Gate, cluster: Cluster, tmp_path: Path
) -> None:
    source, run_dir = experiment(coordinator="here", array=2, lines=["--exclusive"]), tmp_path / "run"
    launched = launch(source, "--run-dir", run_dir)
    job = launched.said(r"job (\d+) is submitted")[1]
    gate.arrival()
    gate.arrival()
    (drained,) = (task for task in ("1", "2") if cluster.field(f"{job}_{task}", "NodeList") == "n2")
    cluster.ask("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=maintenance")
    cluster.ask("scontrol", "requeue", f"{job}_{drained}")
    until(lambda: cluster.state("n2") == "DRAINED")
    gate.open()
    assert launched.exit_code() == 0, launched.stderr
    assert_same_bits(run_dir, expect(source))
    assert cluster.state("n2") == "DRAINED"
