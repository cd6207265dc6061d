"""`docker-compose up` brings a run to its end, on one host and over several, one of which goes down in the middle."""

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.compose.project import Project, call, compose
from tests.integration.conftest import start
from tests.support.paths import ROOT
from tests.support.runs import Start, read_summary

__all__ = ["start"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

SHORT = ("--set=rounds=6", "--set=round.lease=5")


@pytest.fixture(autouse=True, scope="module")
def _engine() -> None:
    if not compose():
        pytest.skip("no Docker engine answers here, or Compose is missing")


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """A file beside the others that makes the run a short one."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    file = tmp_path / "short.yml"
    file.write_text(
        yaml.safe_dump({"services": {"coordinator": {"command": [*services["coordinator"]["command"], *SHORT]}}})
    )
    return file


@pytest.fixture
def expected(start: Start, tmp_path: Path) -> dict[str, object]:
    """What the run must come to, in one process."""
    simulation = start("simulate", ROOT / "examples/digits.toml", *SHORT, "--run-dir", tmp_path / "simulated")
    assert simulation.exit_code() == 0, simulation.stderr
    return dict(read_summary(tmp_path / "simulated"))


def came_to(project: Project, folder: Path) -> dict[str, object]:
    """Return the summary in the run directory of a project's coordinator."""
    (coordinator,) = project.containers("coordinator")
    call("docker", "cp", f"{coordinator}:/runs/digits/summary.json", folder)
    return dict(read_summary(folder))


def is_running(project: Project) -> bool:
    """Tell whether the coordinator is still there, without a worker."""
    (coordinator,) = project.containers("coordinator")
    return call("docker", "inspect", "--format={{.State.Running}}", coordinator).strip() == "true"


def free_port(address: str) -> int:
    """Return a port that nobody listens at."""
    with closing(socket.create_server((address, 0))) as listening:
        return int(listening.getsockname()[1])


def test_one_host_ends_with_exit_code_0_in_every_container(
    short: Path, expected: dict[str, object], tmp_path: Path
) -> None:
    """Nothing of them can be written but volumes and /tmp, and none is root."""
    with Project("lotteryfl-test-one", ["docker-compose.yml", short]) as project:
        project("up", "--build", "--detach", "--scale=worker=2")
        codes = project.exit_codes()
        assert codes == dict.fromkeys(("certs_1", "coordinator_1", "worker_1", "worker_2"), 0)
        assert came_to(project, tmp_path)["model_sha256"] == expected["model_sha256"]
        form = "--format={{.HostConfig.ReadonlyRootfs}} {{.Config.User}} {{.HostConfig.CapDrop}}"
        assert set(call("docker", "inspect", form, *project.containers()).splitlines()) == {"true 1000 [ALL]"}


def test_a_host_of_workers_goes_down_and_comes_back_in_the_middle(
    short: Path, expected: dict[str, object], tmp_path: Path
) -> None:
    """Two projects on two networks: all that the workers' host has of the other is an address and certificates."""
    certificates = tmp_path / "worker"
    certificates.mkdir()
    here, there = "lotteryfl-test-here", "lotteryfl-test-there"
    # Docker writes the certificates as whom the test is, and so the worker has to be who may read them.
    settings = {"CERTS": str(certificates), "USER_ID": str(os.getuid()), "COORDINATOR": "not yet known:0"}
    with (
        Project(there, ["deploy/docker-compose.worker.yml"], **settings) as elsewhere,
        Project(here, ["docker-compose.yml", "deploy/docker-compose.hosts.yml", short], HOSTS="localhost") as project,
    ):
        elsewhere("up", "--build", "--no-start")
        address = call(
            "docker", "network", "inspect", "--format={{(index .IPAM.Config 0).Gateway}}", f"{there}_default"
        ).strip()
        port = free_port(address)
        project.variables |= {"HOSTS": address, "PORT": f"{address}:{port}"}
        elsewhere.variables["COORDINATOR"] = f"{address}:{port}"

        project("up", "--build", "--detach", "--scale=worker=0")
        (authority,) = project.containers("certs")
        call("docker", "cp", f"{authority}:/certs/worker/.", certificates)
        elsewhere("up", "--detach", "--scale=worker=2")

        project.said("coordinator", r"^round 2/6")
        elsewhere("kill")
        assert set(elsewhere.exit_codes().values()) == {137}
        assert is_running(project)
        elsewhere("up", "--detach", "--scale=worker=2")

        assert project.exit_codes() == {"certs_1": 0, "coordinator_1": 0}
        assert elsewhere.exit_codes() == {"worker_1": 0, "worker_2": 0}
        assert came_to(project, tmp_path)["model_sha256"] == expected["model_sha256"]
