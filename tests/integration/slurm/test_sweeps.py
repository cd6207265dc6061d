"""A comparison's runs as jobs of an array: what is missing is submitted again, and nothing else."""

import signal
from collections.abc import Callable
from pathlib import Path

from lotteryfl.exitcodes import INTERRUPTED
from tests.support.processes import Gate, Process
from tests.support.runs import Start, read_summary
from tests.support.slurmcluster import Cluster

Experiment = Callable[..., Path]


def test_a_comparison_goes_on_where_it_stood(
    experiment: Experiment, start: Start, gate: Gate, cluster: Cluster, tmp_path: Path
) -> None:
    source, out = experiment(), tmp_path / "out"

    def compare(*more: str) -> Process:
        strategies = "--strategies=tickets=lotteryfl,dense=fedavg"
        options = ("--seeds=3", f"--out={out}", "--simulate", "--launch=slurm", *more)
        return start("compare", source, strategies, *options, env=cluster.env | gate.env)

    first = compare()
    job = first.said(r"job (\d+) is submitted")[1]
    gate.arrival()
    gate.arrival()
    first.send(signal.SIGINT)
    assert first.exit_code() == INTERRUPTED
    assert "not followed any more, and goes on" in first.stderr

    again = compare()
    again.said("1/2 tickets-seed3: begins")
    cluster.ask("scancel", f"{job}_1")
    gate.open()
    assert again.exit_code() == 1
    assert "is submitted" not in again.stderr
    assert again.error_line.startswith(f"1 of 2 runs failed: tickets-seed3: job {job}_1 is CANCELLED")

    last = compare()
    assert last.exit_code() == 0, last.stderr
    assert "2 runs, 1 of them finished" in last.stderr
    assert "1/1 tickets-seed3: finished" in last.stderr
    assert sorted(path.name for path in (tmp_path / "out.launch").iterdir()) == ["logs"]

    nothing = compare()
    assert nothing.exit_code() == 0, nothing.stderr
    assert "is submitted" not in nothing.stderr
    assert nothing.stdout == last.stdout

    for label, strategy in (("tickets", "lotteryfl"), ("dense", "fedavg")):
        alone = tmp_path / f"alone-{label}"
        settings = ("--set=seed=3", f"--set=strategy.name={strategy}")
        assert start("simulate", source, f"--run-dir={alone}", *settings).exit_code() == 0
        assert read_summary(out / f"{label}-seed3")["model_sha256"] == read_summary(alone)["model_sha256"]
