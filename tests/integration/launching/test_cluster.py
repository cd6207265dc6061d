"""A launch on a real cluster, where one is named: `make test-helm CONTEXT=… IMAGE=…`. Three small pods fit there."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import GATED, Expect, Start, Write, assert_same_bits

CONTEXT, IMAGE = os.environ.get("LOTTERYFL_TEST_CLUSTER", ""), os.environ.get("LOTTERYFL_TEST_IMAGE", "")

pytestmark = [
    pytest.mark.skipif(not (CONTEXT and IMAGE), reason="no cluster is named: make test-helm CONTEXT=… IMAGE=…"),
    pytest.mark.timeout(900),
]

SMALL = {"resources": {"requests": {"cpu": "100m", "memory": "200Mi"}}}
PATIENCE = 300.0


def kubectl(*arguments: str) -> str:
    command = ["kubectl", f"--context={CONTEXT}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def launch(**more: Any) -> dict[str, Any]:
    values = {"coordinator": SMALL, "worker": SMALL}
    return {"kubernetes": {"context": CONTEXT, "image": IMAGE, "delete_volume": True, "values": values, **more}}


def test_a_run_with_own_code_has_the_same_bits_though_its_pods_go(
    start: Start, write: Write, expect: Expect, tmp_path: Path
) -> None:
    """The coordinator's pod and a worker's are killed after the first round; the run goes on from its volume."""
    task = write({**GATED, "rounds": 6, "training": {**GATED["training"], "epochs": 40}})
    path = write(
        {**GATED, "rounds": 6, "training": {**GATED["training"], "epochs": 40}, "launch": launch()}, name="l.toml"
    )
    first = start("launch", "kubernetes", path, "--run-dir", "here")
    first.said("^round 1/6: ", PATIENCE)
    release = first.said(r"^release (\S+) in", PATIENCE)[1]
    mine = f"--selector=app.kubernetes.io/instance={release}"
    pods = kubectl("get", "pods", mine, "--output=name").split()
    gone = [next(pod for pod in pods if f"-{role}-" in pod) for role in ("coordinator", "worker-0")]
    kubectl("delete", *gone, "--force", "--grace-period=0")
    assert first.exit_code(PATIENCE) == 0, first.stderr
    assert_same_bits(tmp_path / "here", expect(task))
    assert kubectl("get", "jobs,pods,secrets,configmaps,services,persistentvolumeclaims", mine, "--output=name") == ""


def test_an_image_that_is_not_there_is_told_and_taken_down(start: Start, write: Write, tmp_path: Path) -> None:
    path = write({**GATED, "launch": launch(image="registry.invalid/lotteryfl:none")})
    one = start("launch", "kubernetes", path, "--run-dir", "here", "--detach")
    assert one.exit_code(PATIENCE) == 0, one.stderr
    follows = start("launch", "kubernetes", "here")
    follows.said("waiting: .*(ErrImagePull|ImagePullBackOff)", PATIENCE)
    down = start("launch", "kubernetes", "here", "--down")
    assert down.exit_code(PATIENCE) == 0, down.stderr
    assert follows.exit_code(PATIENCE) == 1
    assert [each.name for each in (tmp_path / "here.launch").iterdir()] == ["logs"]
