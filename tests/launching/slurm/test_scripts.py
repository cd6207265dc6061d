"""The scripts of a launch: what they call fits together, and they end as the coordinator does."""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from lotteryfl.program import program
from lotteryfl.running.owncode import OwnCode
from tests.launching.slurm.conftest import Rendered

STAND_INS = {
    "lotteryfl": """trap "" TERM
printf '%s\037' "$@" >>"$CALLS"
echo >>"$CALLS"
[ "$1" != serve ] || { until grep -q ^work "$CALLS"; do :; done; exit "$SERVE_CODE"; }""",
    "srun": """until [ -z "$AFTER" ] || grep -q "^$AFTER" "$CALLS"; do :; done
while [ "${1#--}" != "$1" ]; do shift; done
"$@\"""",
    "apptainer": """printf '%s\\n' "$*" >>"$CALLS.container"
while [ "$1" != image.sif ]; do shift; done
shift
exec "$@\"""",
    "module": 'echo "$*" >>"$CALLS.modules"',
    "sleep": ":",
}
Called = Callable[..., tuple[int, list[list[str]]]]


@pytest.fixture
def called(tmp_path: Path) -> Called:
    """Run a script with stand-ins for the programs it calls; return its exit code and its calls of lotteryfl."""
    for name, body in STAND_INS.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
    (tmp_path / "my run.launch/logs").mkdir(parents=True)

    def call(text: str, serve_code: int = 0, after: str = "serve") -> tuple[int, list[list[str]]]:
        calls = tmp_path / "calls"
        calls.touch()
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        settings = {
            "CALLS": str(calls),
            "SERVE_CODE": str(serve_code),
            "SLURM_JOB_ID": "123456",
            "SLURM_NODEID": "0",
            "SLURM_ARRAY_TASK_ID": "2",
            "AFTER": after,
            "PATH": path,
        }
        script = tmp_path / "script.sh"
        script.write_text(text)
        done = subprocess.run(["/bin/bash", script], cwd=tmp_path, env=os.environ | settings, timeout=60, check=False)
        return done.returncode, [line.split("\037")[:-1] for line in calls.read_text().split("\n")[:-1]]

    return call


def parse(arguments: list[str]) -> dict[str, Any]:
    """Return what the command line makes of `lotteryfl ARGUMENTS`; raises on what it does not know."""
    name, *rest = arguments
    command = program.get_command(click.Context(program), name)
    assert command is not None, f"no command {name}"
    return command.make_context(name, rest).params


def by_command(calls: list[list[str]]) -> dict[str, dict[str, Any]]:
    """Return the parameters of each call; there is one of each."""
    assert len({call[0] for call in calls}) == len(calls)
    return {call[0]: parse(call) for call in calls}


def test_a_job_starts_coordinator_and_workers(rendered: Rendered, called: Called, tmp_path: Path) -> None:
    code, calls = called(rendered("slurm.nodes=2", "workers_per_device=2")["job.sh"])
    assert code == 0
    found = by_command(calls)
    certs, serve, work = found["certs"], found["serve"], found["work"]
    assert (serve["source"], serve["run_dir"]) == (tmp_path / "e.toml", tmp_path / "my run")
    assert serve["listen"] == "0.0.0.0:23456"
    assert work["coordinator"] == f"{certs['hosts']}:23456"
    assert (work["devices"], work["per_device"]) == ("all", 2)
    assert work["name"] == f"{certs['workers'][0]}/0"
    assert certs["observers"] == ("observer",)
    for holder, parameters in (("coordinator", serve), ("worker", work)):
        shown = {name: Path(str(parameters[f"tls_{name}"])) for name in ("cert", "key", "ca")}
        assert {file.parent for file in shown.values()} == {Path(str(certs["out"])) / holder}
    assert (tmp_path / "my run.launch/ended").read_text() == "0\n"


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_job_ends_as_the_coordinator_did(rendered: Rendered, called: Called, code: int) -> None:
    assert called(rendered()["job.sh"], serve_code=code)[0] == code


def test_a_container_sees_what_the_run_needs(rendered: Rendered, called: Called, tmp_path: Path) -> None:
    task = tmp_path / "tasks/mine.py"
    task.parent.mkdir()
    task.touch()
    script = rendered(
        "slurm.container=image.sif",
        "slurm.gpus_per_node=1",
        'slurm.binds=["/scratch:/data"]',
        "data_dir=/data",
        'slurm.modules=["apptainer/1.3", "cuda"]',
        'environment.GREETING="a b; c"',
        own=OwnCode((str(task),)),
    )["job.sh"]
    assert script.startswith("#!/bin/bash -l\n")
    code, calls = called(script)
    assert code == 0
    assert set(by_command(calls)) == {"certs", "serve", "work"}
    assert (tmp_path / "calls.modules").read_text() == "load apptainer/1.3 cuda\n"
    binds = f"--bind {tmp_path} --bind {task.parent} --bind /data --bind /scratch:/data"
    containers = (tmp_path / "calls.container").read_text().splitlines()
    assert {line.partition(" image.sif ")[0] for line in containers} == {f"exec --nv {binds}"}
    assert "export GREETING='a b; c'" in script


def test_an_array_joins_the_coordinator_that_is_here(rendered: Rendered, called: Called) -> None:
    here = ("slurm.coordinator=here", "slurm.host=login1", "slurm.port=7007", "slurm.array=8", "slurm.at_once=3")
    scripts = rendered(*here)
    assert list(scripts) == ["coordinator.sh", "workers.sh"]
    assert "#SBATCH --array=1-8%3\n" in scripts["workers.sh"]
    (serve,) = (line for line in scripts["coordinator.sh"].splitlines() if " serve " in line)
    words = shlex.split(serve.removesuffix(" &"))
    assert parse(words[words.index("serve") :])["listen"] == "0.0.0.0:7007"
    subprocess.run(["/bin/sh", "-n"], input=scripts["coordinator.sh"], text=True, check=True)
    code, calls = called(scripts["workers.sh"], after="")
    assert code == 0
    work = by_command(calls)["work"]
    assert (work["coordinator"], work["name"]) == ("login1:7007", "worker/2-0")
