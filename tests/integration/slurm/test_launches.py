"""How a launch is followed, left, taken down, and what is said where it cannot be."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lotteryfl.exitcodes import INTERRUPTED
from tests.integration.slurm.conftest import Launch
from tests.support.processes import Gate
from tests.support.runs import Expect, assert_same_bits
from tests.support.slurmcluster import NODES, Cluster
from tests.support.waiting import until

Experiment = Callable[..., Path]


def test_a_launch_is_left_and_followed_again(
    experiment: Experiment, launch: Launch, expect: Expect, gate: Gate, cluster: Cluster, tmp_path: Path
) -> None:
    source, run_dir = experiment(), tmp_path / "run"
    detached = launch(source, "--run-dir", run_dir, "--detach")
    assert detached.exit_code() == 0, detached.stderr
    gate.arrival()
    following = launch(run_dir)
    following.said("look at it with: ")
    following.send(signal.SIGINT)
    assert following.exit_code() == INTERRUPTED
    assert f"Follow it with: lotteryfl launch slurm {run_dir};" in following.stderr
    again = launch(run_dir)
    gate.open()
    assert again.exit_code() == 0, again.stderr
    assert_same_bits(run_dir, expect(source))


@pytest.mark.parametrize("coordinator", ["job", "here"])
def test_a_launch_is_taken_down_and_the_run_goes_on_by_another(
    experiment: Experiment,
    launch: Launch,
    expect: Expect,
    gate: Gate,
    cluster: Cluster,
    tmp_path: Path,
    coordinator: str,
) -> None:
    source, run_dir = experiment(coordinator=coordinator), tmp_path / "run"
    assert launch(source, "--run-dir", run_dir, "--detach").exit_code() == 0
    gate.arrival().let_go()
    gate.arrival()
    for _ in range(2):
        down = launch(run_dir, "--down")
        assert down.exit_code() == 0, down.stderr
    assert not cluster.ask("squeue", "--noheader")
    assert [path.name for path in (tmp_path / "run.launch").iterdir()] == ["logs"]
    gate.open()
    goes_on = launch(source, "--run-dir", run_dir)
    assert goes_on.exit_code() == 0, goes_on.stderr
    assert_same_bits(run_dir, expect(source))


def test_a_job_waits_and_says_for_what(
    experiment: Experiment, launch: Launch, cluster: Cluster, tmp_path: Path
) -> None:
    for node in NODES:
        cluster.ask("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=maintenance")
    run_dir = tmp_path / "run"
    waits = launch(experiment(), "--run-dir", run_dir)
    job = waits.said(r"job (\d+) is submitted")[1]
    waits.said(rf"waiting: job {job} is PENDING \((Resources|ReqNodeNotAvail.*|Nodes_required_for_job.*)\)")
    waits.send(signal.SIGINT)
    assert waits.exit_code() == INTERRUPTED
    assert launch(run_dir, "--down").exit_code() == 0
    assert cluster.field(job, "JobState") == "CANCELLED"


def test_what_slurm_refuses_leaves_nothing(
    experiment: Experiment, launch: Launch, cluster: Cluster, tmp_path: Path
) -> None:
    refused = launch(experiment(partition="gpu"), "--run-dir", tmp_path / "run")
    assert refused.exit_code() == 1
    assert "sbatch: " in refused.error_line
    assert "invalid partition specified: gpu" in refused.error_line
    assert [path.name for path in (tmp_path / "run.launch").iterdir()] == ["logs"]


def test_a_job_that_fails_says_why(experiment: Experiment, launch: Launch, cluster: Cluster, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "notes.txt").touch()
    failed = launch(experiment(), "--run-dir", run_dir)
    assert failed.exit_code() == 1
    assert " is FAILED (NonZeroExitCode), exit code 1: " in failed.error_line
    assert str(run_dir) in failed.error_line


def test_a_job_without_workers_ends(experiment: Experiment, launch: Launch, cluster: Cluster, tmp_path: Path) -> None:
    failed = launch(experiment(), "--run-dir", tmp_path / "run", "--with", 'arguments=["--max-epochs=1"]')
    assert failed.exit_code() == 1
    assert "no worker is left" in failed.error_line


def test_a_coordinator_here_that_fails_submits_nothing(
    experiment: Experiment, launch: Launch, cluster: Cluster, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "notes.txt").touch()
    failed = launch(experiment(coordinator="here"), "--run-dir", run_dir)
    assert failed.exit_code() == 1
    assert str(run_dir) in failed.error_line
    until(lambda: not cluster.ask("squeue", "--noheader"))
