"""A real Ray of two raylets: runs on it have simulate's bits, whatever of it dies; nothing of a launch is left."""

import os
import signal
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import pytest

from tests.launching.ray.conftest import Launch
from tests.support.processes import Gate
from tests.support.runs import Expect, Start, Write, assert_same_bits
from tests.support.waiting import DEADLINE, until

if TYPE_CHECKING:
    from tests.support.raycluster import RayCluster

SECONDS = 2 * DEADLINE
"""For a whole launch: Ray starts a dozen processes that import torch or itself, and notices deaths in its own time."""

pytestmark = [pytest.mark.ray, pytest.mark.timeout(4 * SECONDS)]


def assert_nothing_is_left(cluster: "RayCluster", run: Path) -> None:
    from tests.support.raycluster import processes_of

    until(lambda: not cluster.named())
    until(lambda: not processes_of(str(run)))
    folder = run.with_name("run.launch")
    assert [path.name for path in folder.iterdir()] == ["logs"]
    assert not list(Path(gettempdir()).glob("lotteryfl-*/worker-*.log"))


def test_a_run_has_the_bits_of_simulate_and_leaves_its_logs(
    cluster: "RayCluster", launch: Launch, gate: Gate, write: Write, expect: Expect, tmp_path: Path
) -> None:
    gate.open()
    path = write()
    process = launch(path, placement_group="STRICT_SPREAD")
    assert process.exit_code(SECONDS) == 0, process.stderr
    assert "2 of 2 workers run" in process.stderr
    assert "round 3/3" in process.stdout
    assert_same_bits(tmp_path / "run", expect(path))
    logs = {path.name.rpartition("-")[0] or path.stem for path in (tmp_path / "run.launch/logs").iterdir()}
    assert logs == {"coordinator", "worker-1", "worker-2"}
    assert_nothing_is_left(cluster, tmp_path / "run")


@pytest.mark.parametrize("victim", ["actor", "child", "by Ray"])
def test_a_worker_that_dies_is_started_again_by_ray(
    cluster: "RayCluster", launch: Launch, gate: Gate, write: Write, expect: Expect, tmp_path: Path, victim: str
) -> None:
    """Its lease goes back when it comes again: the lease itself would hold for ten minutes."""
    import ray

    from tests.support.raycluster import is_running, parent_of

    path = write()
    process = launch(path)
    visit = gate.arrival()
    actor = parent_of(visit.pid)
    process.said("2 of 2 workers run")
    if victim == "by Ray":
        (named,) = (each for each in cluster.named() if each["name"] == _name_of(visit.pid))
        ray.kill(ray.get_actor(named["name"], named["namespace"]), no_restart=False)
    else:
        os.kill(actor if victim == "actor" else visit.pid, signal.SIGKILL)
    until(lambda: not is_running(actor) and not is_running(visit.pid))
    gate.open()
    assert process.exit_code(SECONDS) == 0, process.stderr
    assert_same_bits(tmp_path / "run", expect(path))
    assert_nothing_is_left(cluster, tmp_path / "run")


def test_workers_of_a_raylet_that_goes_begin_again_on_another(
    cluster: "RayCluster", launch: Launch, gate: Gate, write: Write, expect: Expect, tmp_path: Path
) -> None:
    from tests.support.raycluster import is_running, parent_of

    nodes = {node.all_processes["raylet"][0].process.pid: node for node in (_site(cluster), _site(cluster))}
    try:
        path = write()
        process = launch(path, workers=1, **{"resources.site": 1})
        visit = gate.arrival()
        process.said("1 of 1 workers run")
        cluster.remove(nodes.pop(parent_of(parent_of(visit.pid))), graceful=False)
        until(lambda: not is_running(visit.pid))
        process.said("worker-1 was started again by Ray")
        gate.open()
        assert process.exit_code(SECONDS) == 0, process.stderr
        assert_same_bits(tmp_path / "run", expect(path))
    finally:
        for node in nodes.values():
            cluster.remove(node)


def test_a_detached_coordinator_is_followed_again_and_survives_a_kill(
    cluster: "RayCluster", launch: Launch, start: Start, gate: Gate, write: Write, expect: Expect, tmp_path: Path
) -> None:
    from tests.support.raycluster import parent_of, processes_of

    path = write()
    process = launch(path, "--detach", coordinator="actor", workers=1)
    assert process.exit_code(SECONDS) == 0, process.stderr
    gate.arrival()
    (serving,) = processes_of(f"serve\0--run-dir={tmp_path / 'run'}")
    os.kill(parent_of(serving), signal.SIGKILL)
    until(lambda: processes_of(f"serve\0--run-dir={tmp_path / 'run'}") not in ([], [serving]))
    gate.open()
    following = start("launch", "ray", tmp_path / "run")
    assert following.exit_code(SECONDS) == 0, following.stderr
    assert_same_bits(tmp_path / "run", expect(path))
    assert_nothing_is_left(cluster, tmp_path / "run")


def test_a_run_is_launched_from_outside_the_cluster(
    cluster: "RayCluster", launch: Launch, gate: Gate, write: Write, expect: Expect, tmp_path: Path
) -> None:
    gate.open()
    path = write()
    process = launch(path, address=cluster.client_address, workers=1, coordinator="actor", placement_group="PACK")
    assert process.exit_code(SECONDS) == 0, process.stderr
    assert_same_bits(tmp_path / "run", expect(path))
    assert_nothing_is_left(cluster, tmp_path / "run")


@pytest.mark.parametrize("coordinator", ["here", "actor"])
def test_down_leaves_the_run_alone_and_twice_is_no_error(
    cluster: "RayCluster",
    launch: Launch,
    start: Start,
    gate: Gate,
    write: Write,
    expect: Expect,
    tmp_path: Path,
    coordinator: str,
) -> None:
    path = write()
    assert launch(path, "--detach", coordinator=coordinator, workers=1).exit_code(SECONDS) == 0
    gate.arrival()
    assert start("launch", "ray", tmp_path / "run", "--down").exit_code(SECONDS) == 0
    assert_nothing_is_left(cluster, tmp_path / "run")
    again = start("launch", "ray", tmp_path / "run", "--down")
    assert again.exit_code(SECONDS) == 0
    assert "nothing is launched" in again.stderr
    gate.open()
    going_on = launch(tmp_path / "run", coordinator=coordinator, workers=1)
    assert going_on.exit_code(SECONDS) == 0, going_on.stderr
    assert_same_bits(tmp_path / "run", expect(path))


def test_a_node_with_another_version_is_named(
    cluster: "RayCluster", launch: Launch, write: Write, tmp_path: Path
) -> None:
    metadata = tmp_path / "other/lotteryfl-9.9.9.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.4\nName: lotteryfl\nVersion: 9.9.9\n")
    node = cluster.add(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path / "other")})
    try:
        process = launch(write())
        assert process.exit_code(SECONDS) == 1
        assert "has lotteryfl 9.9.9: expected" in process.error_line
        assert not (tmp_path / "run").exists()
    finally:
        cluster.remove(node)
    assert_nothing_is_left(cluster, tmp_path / "run")


def test_a_run_is_brought_from_a_nodes_disk(cluster: "RayCluster", finished_run: Path, tmp_path: Path) -> None:
    from lotteryfl.launching.ray.bringing import bring
    from lotteryfl.launching.ray.cluster import Cluster

    notes: list[str] = []
    there = Cluster(cluster.address, "", tmp_path)
    there.connect()
    node = there.nodes()[0]
    (finished_run / "empty").touch()
    bring(there, node, finished_run, tmp_path / "brought", notes.append)
    assert contents(tmp_path / "brought") == contents(finished_run)
    bring(there, node, finished_run, tmp_path / "brought", notes.append)
    assert notes == []
    (tmp_path / "brought/empty").unlink()
    bring(there, node, finished_run, tmp_path / "brought", notes.append)
    assert notes == [f"{tmp_path / 'brought'}: is another here than on node {node.address}, which stays there"]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_launch_ends_where_no_worker_is_willing(
    cluster: "RayCluster", launch: Launch, write: Write, tmp_path: Path
) -> None:
    process = launch(write(), '--with=arguments=["--task=elsewhere.py"]')
    assert process.exit_code(SECONDS) == 1
    assert process.error_line.startswith("no worker is left: worker-1: ")
    assert "task 'gated_task' is not installed here" in process.error_line
    assert_nothing_is_left(cluster, tmp_path / "run")


def test_where_no_cluster_is_one_line_says_so(launch: Launch, write: Write, tmp_path: Path) -> None:
    process = launch(write(), address="127.0.0.1:9")
    assert process.exit_code(SECONDS) == 1
    assert process.error_line.startswith("ray.address = '127.0.0.1:9': ")


def _site(cluster: "RayCluster") -> Any:
    return cluster.add(num_cpus=1, resources={"site": 1})


def _name_of(pid: int) -> str:
    """Return the actor's name of a worker's process."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    (number,) = (word.removeprefix("--name=ray/") for word in words if word.startswith("--name=ray/"))
    return f"worker-{number}"
