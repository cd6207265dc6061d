"""Coordinator and workers of two minor versions, each installed as a package, as processes: they work or say why."""

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tomli_w

from lotteryfl.common.experiment.experiment import load
from lotteryfl.server.results.verify import verify
from tests.support.paths import ROOT
from tests.support.processes import Process, free_port
from tests.support.runs import read_summary

pytestmark = pytest.mark.slow

EARLIER = "8d4a0c0d7083e8515e6b9db886a52caa20763721"
"""Of 0.1: what made the oldest directories of tests/fixtures."""
FIXTURES = ROOT / "tests" / "fixtures"
TASK = FIXTURES / "fixture_task.py"
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "lotteryfl", "client", "common", "protos", "server")

By = Callable[..., Process]
"""Start a program of a version: `by(version, "work", …)`."""


def install(source: Path, target: Path) -> None:
    """Install a package with what is here already, by no network."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    command += ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the earlier version is installed, from its commit."""
    source, target = tmp_path_factory.mktemp("older"), tmp_path_factory.mktemp("older-site")
    git = shutil.which("git") or "git"
    packed = subprocess.run([git, "-C", str(ROOT), "archive", EARLIER], capture_output=True)
    if packed.returncode:
        pytest.skip(f"{EARLIER[:7]} is not in the history here: git fetch --unshallow")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(source, filter="data")
    install(source, target)
    return target


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this tree is installed, as the next minor version."""
    source, target = tmp_path_factory.mktemp("newer"), tmp_path_factory.mktemp("newer-site")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    project = source / "pyproject.toml"
    project.write_text(re.sub(r'^version = ".*"$', 'version = "0.2.0"', project.read_text(), flags=re.MULTILINE))
    install(source, target)
    return target


@pytest.fixture
def by(tmp_path: Path) -> Iterator[By]:
    with ExitStack() as stack:

        def by_(site: Path, *arguments: object) -> Process:
            program = str(site / "bin" / "lotteryfl")
            process = Process(*arguments, cwd=tmp_path, env={"PYTHONPATH": str(site)}, program=program)
            stack.callback(process.end)
            return process

        yield by_


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., Path]:
    """Write the experiment of the fixtures, with other keys: `experiment(mask_coding="ans")`."""

    def write(**keys: object) -> Path:
        path = tmp_path / "experiment.toml"
        known = load(FIXTURES / "run-0.1.toml").model_dump(exclude_unset=True)
        path.write_text(tomli_w.dumps({**known, **keys, "task": {"name": str(TASK)}}))
        return path

    return write


def test_a_newer_coordinator_has_an_older_worker_beside_a_newer_one(
    by: By, older: Path, newer: Path, experiment: Callable[..., Path], tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    server = by(newer, "serve", path := experiment(), "--listen", address, "--run-dir", "run")
    server.said("^listening at")
    options = ("work", f"--coordinator={address}", f"--task={TASK}", "--device=cpu")
    workers = [by(older, *options, "--name=old", "--clients=0-1"), by(newer, *options, "--name=new", "--clients=2-4")]
    assert [process.exit_code() for process in (server, *workers)] == [0, 0, 0], [each.stderr for each in workers]
    simulated = by(newer, "simulate", path, "--device=cpu", "--run-dir", "simulated")
    assert simulated.exit_code() == 0, simulated.stderr
    found, expected = (read_summary(tmp_path / run) for run in ("run", "simulated"))
    assert {**found, "bytes": None} == {**expected, "bytes": None}
    assert verify(tmp_path / "run").problems == 0
    doctor = by(newer, "doctor", tmp_path / "run")
    assert doctor.exit_code() == 0, doctor.stdout


def test_an_older_coordinator_has_a_newer_worker_and_is_looked_at(
    by: By, older: Path, newer: Path, experiment: Callable[..., Path], tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    server = by(older, "serve", experiment(), "--listen", address, "--run-dir", "run")
    server.said("^listening at")
    seen = by(newer, "status", address)
    assert seen.exit_code() == 0, seen.stderr
    assert "5 clients: running\nrounds: 0 of 4 committed" in seen.stdout
    watched = by(newer, "watch", address)
    by(newer, "doctor", address).said("^warn protocol: the coordinator does not tell: it is of an earlier")
    refused = by(newer, "pause", address)
    assert refused.exit_code() == 1
    expected = "does not know this call: it is of an older lotteryfl, or is no coordinator"
    assert refused.error_line == f"coordinator {address}: {expected}"
    worker = by(newer, "work", f"--coordinator={address}", f"--task={TASK}", "--name=new", "--device=cpu")
    assert (server.exit_code(), worker.exit_code()) == (0, 0), worker.stderr
    assert watched.exit_code() == 0, watched.stderr
    of_its_time = json.loads((FIXTURES / "run-0.1-finished" / "summary.json").read_text())
    assert read_summary(tmp_path / "run")["rounds"] == of_its_time["rounds"]
    assert verify(tmp_path / "run").problems == 0


def test_an_older_worker_and_an_older_look_say_what_they_lack(
    by: By, older: Path, newer: Path, experiment: Callable[..., Path]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    server = by(newer, "serve", experiment(mask_coding="ans"), "--listen", address, "--run-dir", "run")
    server.said("^listening at")
    worker = by(older, "work", f"--coordinator={address}", f"--task={TASK}", "--name=old", "--device=cpu")
    assert worker.exit_code() == 1
    assert worker.error_line.startswith("the coordinator's experiment: unknown key mask_coding = 'ans'; ")
    looked = by(older, "status", address)
    assert looked.exit_code() == 0, looked.stderr
    assert "5 clients: running" in looked.stdout
    directory = by(older, "status", "run")
    assert directory.exit_code() == 1
    assert "run.db" in directory.error_line
