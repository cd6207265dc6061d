"""What Slurm's tools answer is read; those here say what the real ones have said."""

import asyncio
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.slurm.queue import Job, jobs_of, submit

FORGOTTEN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


def stand_in(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def test_squeue_is_read(tools: Path) -> None:
    lines = ["12_1|RUNNING|None|0|", "12_2|PENDING|JobArrayTaskLimit|0|", "12_3|FAILED|NonZeroExitCode|768|"]
    stand_in(tools, "squeue", "\n".join(f"echo '{line}'" for line in [*lines, "12_4|CANCELLED|None|15|"]))
    running, waiting, failed, cancelled = asyncio.run(jobs_of("12"))
    assert (running.id, running.is_running, running.reason) == ("12_1", True, "")
    assert waiting.waits
    assert waiting.described == "job 12_2 is PENDING (JobArrayTaskLimit)"
    assert failed == Job("12_3", "FAILED", "NonZeroExitCode", 3)
    assert (cancelled.waits, cancelled.is_running, cancelled.code) == (False, False, -15)


def test_of_what_squeue_has_forgotten_accounting_knows(tools: Path) -> None:
    stand_in(tools, "squeue", FORGOTTEN)
    stand_in(tools, "sacct", "echo '12|CANCELLED by 1000|None|0:15'\necho '13|COMPLETED|None|0:0'")
    assert asyncio.run(jobs_of("12")) == [Job("12", "CANCELLED", "", -15), Job("13", "COMPLETED", "", 0)]


def test_without_accounting_nothing_is_known(tools: Path) -> None:
    stand_in(tools, "squeue", FORGOTTEN)
    stand_in(tools, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert asyncio.run(jobs_of("12")) == []


def test_a_controller_that_cannot_be_reached_is_not_a_job_that_is_gone(tools: Path) -> None:
    stand_in(tools, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(LotteryFLError, match="squeue: slurm_load_jobs error: Unable to contact slurm controller"):
        asyncio.run(jobs_of("12"))


def test_a_job_has_its_number_and_not_its_clusters_name(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOTTERYFL_TOKEN", "me.secret")
    stand_in(tools, "sbatch", '[ -z "${LOTTERYFL_TOKEN:-}" ] && echo "12;alpine"')
    assert asyncio.run(submit(Path("job.sh"))) == "12"
    stand_in(tools, "sbatch", "echo 'Submitted batch job 12'")
    with pytest.raises(LotteryFLError, match="expected a job's number"):
        asyncio.run(submit(Path("job.sh")))
