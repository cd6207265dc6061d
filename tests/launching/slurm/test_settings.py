"""What `[launch.slurm]` may say becomes words in the head of a script, and nothing else may."""

import shlex
from pathlib import Path

import pytest

from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.launching.folder import LaunchFolder
from lotteryfl.launching.launcher import Request
from lotteryfl.launching.settings import LaunchSettings
from lotteryfl.launching.slurm.launcher import SlurmLauncher
from lotteryfl.launching.slurm.queue import TOOLS
from lotteryfl.running.owncode import OwnCode
from tests.launching.slurm.conftest import Rendered


def head(script: str) -> list[str]:
    """Return the options that sbatch reads of a script."""
    return [word for line in script.splitlines() if line.startswith("#SBATCH ") for word in shlex.split(line)[1:]]


def test_every_setting_is_an_option_of_sbatch(rendered: Rendered) -> None:
    options = head(
        rendered(
            "slurm.partition=gpu,long",
            "slurm.account=1234",
            "slurm.qos=high",
            "slurm.time=1-12:00:00",
            "slurm.nodes=3",
            "slurm.gpus_per_node=a100:4",
            "slurm.cpus_per_task=16",
            "slurm.mem=64G",
            "slurm.constraint=[a100*2&ib]",
            "slurm.stop_seconds=300",
            'slurm.lines=["--reservation=night shift"]',
        )["job.sh"]
    )
    assert {
        *("--partition=gpu,long", "--account=1234", "--qos=high", "--time=1-12:00:00", "--nodes=3"),
        *("--gpus-per-node=a100:4", "--cpus-per-task=16", "--mem=64G", "--constraint=[a100*2&ib]"),
        *("--signal=B:USR1@300", "--ntasks-per-node=1", "--no-kill", "--requeue"),
    } <= set(options)
    assert options[-2:] == ["--reservation=night", "shift"]  # sbatch splits it as a shell does


def test_what_is_not_said_is_the_clusters(rendered: Rendered) -> None:
    options = head(rendered("slurm.requeue=false")["job.sh"])
    assert {option.partition("=")[0] for option in options} == {
        *("--job-name", "--output", "--open-mode", "--nodes", "--ntasks-per-node", "--signal"),
        *("--no-kill", "--no-requeue"),
    }


@pytest.mark.parametrize(
    ("given", "written"), [("90", "90"), ("04:30:00", "04:30:00"), ("2-0", "2-0"), ("1:30", "1:30")]
)
def test_a_time_is_written_as_people_do(rendered: Rendered, given: str, written: str) -> None:
    assert f"--time={written}" in head(rendered(f"slurm.time={given}")["job.sh"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("slurm.partition='a b'", "slurm: 'a b': expected one word as sbatch takes it"),
        ('slurm.account="x\\n#SBATCH --uid=0"', r"slurm: 'x\n#SBATCH --uid=0': expected one word"),
        ("slurm.qos='$(id)'", "slurm: '$(id)': expected one word"),
        ("slurm.time=soon", "slurm.time = 'soon': expected minutes, HOURS:MINUTES:SECONDS or DAYS-"),
        ("slurm.mem=64GB", "slurm.mem = '64GB': expected megabytes, or a number with K, M, G or T, as 64G"),
        ("slurm.gpus_per_node=all", "slurm.gpus_per_node = 'all': expected a number, or TYPE:NUMBER as a100:4"),
        ("slurm.nodes=0", "slurm.nodes = 0: input should be greater than or equal to 1"),
        ("slurm.lines=['night']", "slurm.lines: 'night': expected an option of sbatch in one line"),
        ('slurm.lines=["--x\\nrm -rf /"]', "expected an option of sbatch in one line"),
        ("slurm.coordinator=there", "slurm.coordinator = 'there': input should be 'job' or 'here'"),
        ("slurm.array=8", "slurm.array = 8: needs slurm.coordinator = 'here'"),
        ("slurm.at_once=2", "slurm.at_once = 2: needs slurm.coordinator = 'here'"),
        ("slurm.host=login1", "slurm.host = 'login1': needs slurm.coordinator = 'here'"),
        ("slurm.walltime=5", "unknown key slurm.walltime = 5; allowed here: partition, account, qos, time, nodes"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(rendered: Rendered, given: str, message: str) -> None:
    with pytest.raises(ExperimentError) as error:
        rendered(given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_path_never_leaves_the_comment_that_it_is_written_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in TOOLS:
        (tmp_path / tool).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    run_dir = tmp_path / "a\ntouch b"
    request = Request(tmp_path / "e.toml", run_dir, (), OwnCode(), LaunchSettings(), LaunchFolder(run_dir))
    with pytest.raises(LotteryFLError, match="expected a path of printable characters"):
        SlurmLauncher(request, print).check()
