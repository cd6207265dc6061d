"""What a launch asks of kubectl and helm, which stand-ins take the place of: no cluster is here.

tests/launching/kubernetes has the chart, by real helm, and what is done on a real cluster where one is named.
"""

import json
import shutil
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from lotteryfl.common.disk.privatefiles import is_open
from tests.support.kubernetes import job, pod, waiting
from tests.support.runs import Start, Write, read_summary
from tests.support.standincluster import Cluster

LAUNCH = {"kubernetes": {"image": "registry.example/lotteryfl:1", "name": "run-a"}}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "cluster")


def secrets_of(cluster: Cluster) -> list[dict[str, Any]]:
    (given,) = (read for words, read in cluster.calls() if words[:3] == ["kubectl", "apply", "--server-side"])
    return list(json.loads(given)["items"])


def test_a_run_is_installed_followed_and_brought_back_and_nothing_is_left(
    cluster: Cluster, start: Start, write: Write, finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_run, cluster.folder / "volume/run-a")
    running = [job("coordinator"), job("worker"), pod("coordinator", ready=True), pod("worker", ready=True)]
    cluster.says(
        [job("coordinator"), job("worker")],
        [job("coordinator"), job("worker"), pod("coordinator", waiting("ImagePullBackOff", "Back-off pulling image"))],
        running,
        [job("coordinator", Complete="CompletionsReached"), job("worker"), pod("coordinator")],
    )
    path = write(launch=LAUNCH)
    launch = start("launch", "kubernetes", path, "--run-dir", "here", env=cluster.env)
    assert launch.exit_code() == 0, launch.stderr

    assert "waiting: the coordinator has no pod yet" in launch.stderr
    assert "waiting: pod run-a-coordinator: ImagePullBackOff: Back-off pulling image" in launch.stderr
    assert "workers: 1 of 2 pods run" in launch.stderr
    assert "service/run-a-lotteryfl-coordinator: error: nothing to forward to here" in launch.stderr
    assert read_summary(tmp_path / "here") == read_summary(finished_run)
    assert not is_open(tmp_path / "here")
    assert "summary: " in launch.stdout
    assert cluster.verbs() == [
        *("helm template", "kubectl config", "kubectl apply", "helm upgrade", "kubectl get", "kubectl port-forward"),
        *("kubectl get", "helm template", "kubectl apply", "kubectl wait", "kubectl exec", "kubectl delete"),
        *("kubectl get", "kubectl logs", "kubectl delete", "helm uninstall", "kubectl delete"),
    ]
    last, _ = cluster.calls()[-1]
    assert last[:4] == ["kubectl", "delete", "secrets,pods", "--selector=app.kubernetes.io/instance=run-a"]
    folder = tmp_path / "here.launch"
    assert [each.name for each in folder.iterdir()] == ["logs"]
    assert (folder / "logs/the-coordinator.log").read_text() == "last words\n"

    again = start("launch", "kubernetes", "here", "--down", env=cluster.env)
    assert (again.exit_code(), "nothing is launched" in again.stderr) == (0, True)


def test_keys_go_into_secrets_and_nowhere_else(cluster: Cluster, start: Start, write: Write, tmp_path: Path) -> None:
    cluster.says([job("coordinator"), job("worker")])
    launch = start("launch", "kubernetes", write(launch=LAUNCH), "--run-dir", "here", "--detach", env=cluster.env)
    assert launch.exit_code() == 0, launch.stderr

    held = {each["metadata"]["name"]: each["data"] for each in secrets_of(cluster)}
    assert held.keys() == {"run-a-lotteryfl-coordinator-tls", "run-a-lotteryfl-worker-tls"}
    folder = tmp_path / "here.launch"
    for role in ("coordinator", "worker"):
        for name in ("tls.crt", "tls.key", "ca.crt"):
            data = held[f"run-a-lotteryfl-{role}-tls"][name]
            assert b64decode(data) == (folder / "certs" / role / name).read_bytes()
    keys = {(folder / "certs" / each).read_text() for each in ("ca.key", "coordinator/tls.key", "worker/tls.key")}
    told = [" ".join(words) for words, _ in cluster.calls()] + [launch.stdout, launch.stderr]
    told += [(folder / name).read_text() for name in ("launch.json", "values.json")]
    assert not any(line in text for text in told for key in keys for line in key.splitlines()[1:-1])

    down = start("launch", "kubernetes", "here", "--down", env=cluster.env)
    assert down.exit_code() == 0, down.stderr
    assert not (folder / "certs").exists()
    assert cluster.verbs()[-2:] == ["helm uninstall", "kubectl delete"]


def test_a_coordinator_that_fails_is_told_with_its_code_and_last_words(
    cluster: Cluster, start: Start, write: Write, tmp_path: Path
) -> None:
    words = "lotteryfl: rounds = 0: expected at least 1"
    cluster.says([job("coordinator", Failed="PodFailurePolicy"), job("worker"), pod("coordinator", ended=(1, words))])
    settings = {"kubernetes": {**LAUNCH["kubernetes"], "delete_volume": True}}
    launch = start("launch", "kubernetes", write(launch=settings), "--run-dir", "here", env=cluster.env)
    assert launch.exit_code() == 1
    assert "the coordinator's Job has failed (PodFailurePolicy): pod run-a-coordinator: exit code 1: " in launch.stderr
    assert words in launch.stderr
    assert not (tmp_path / "here").exists()
    assert "helm uninstall" in cluster.verbs()
    assert cluster.calls()[-1][0][2] == "secrets,pods"  # what the run had come to is on its volume


def test_a_volume_goes_only_once_its_run_is_here_or_by_ones_own_word(
    cluster: Cluster, start: Start, write: Write, finished_run: Path, tmp_path: Path
) -> None:
    ended = [job("coordinator", Complete="CompletionsReached"), job("worker"), pod("coordinator", ended=(0, ""))]
    cluster.says(ended)
    path = write(launch={"kubernetes": {**LAUNCH["kubernetes"], "delete_volume": True}})
    lost = start("launch", "kubernetes", path, "--run-dir", "here", env=cluster.env)
    assert lost.exit_code() == 1
    assert "the run is on its volume still" in lost.error_line
    assert not (tmp_path / "here").exists()
    assert "helm uninstall" not in cluster.verbs()

    shutil.copytree(finished_run, cluster.folder / "volume/run-a")
    again = start("launch", "kubernetes", "here", env=cluster.env)
    assert again.exit_code() == 0, again.stderr
    assert cluster.calls()[-1][0][2] == "secrets,pods,persistentvolumeclaims"


def test_without_an_image_nothing_is_made(cluster: Cluster, start: Start, write: Write, tmp_path: Path) -> None:
    launch = start("launch", "kubernetes", write(), "--run-dir", "here", env=cluster.env)
    assert launch.exit_code() == 1
    assert launch.error_line.startswith("kubernetes.image: is missing")
    assert not (tmp_path / "here.launch").exists()
