"""`make demo DASHBOARD=…`: all that a run is seen by is where the command says."""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.paths import ROOT
from tests.support.processes import PROGRAM, Process, free_port
from tests.support.runs import Start
from tests.support.scraping import scrape
from tests.support.trackerpoints import expected, of_tensorboard
from tests.support.waiting import DEADLINE, until

pytestmark = pytest.mark.slow


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Process]:
    """The demo, of fewer rounds."""
    (tmp_path / "examples").mkdir()
    experiment = (ROOT / "examples/digits.toml").read_text().replace("rounds = 30", "rounds = 4")
    (tmp_path / "examples/digits.toml").write_text(experiment)
    where = Path(PROGRAM).parent, f"127.0.0.1:{free_port(5)}"
    process = Process(*where, cwd=tmp_path, env={}, program=str(ROOT / "tools/demo-seen"))
    yield process
    process.end()


def answers(metrics: str) -> bool:
    """Tell whether Prometheus is answered there by now."""
    with suppress(ConnectionRefusedError):
        return "lotteryfl_build_info" in scrape(metrics).names
    return False


def test_it_says_where_it_is_seen_and_there_it_is(demo: Process, start: Start, tmp_path: Path) -> None:
    coordinator = demo.said(r"^steering +\S+ pause (\S+),")[1]
    logs = tmp_path / demo.said(r"^logs +(\S+)/\*\.jsonl$")[1]
    page, *metrics = re.findall(r"http://\S+", demo.stdout)
    assert len(metrics) == 3

    def paused() -> bool:
        return start("pause", coordinator).exit_code() == 0

    until(paused)  # before its workers, which have torch to import, have done anything
    until(lambda: all(map(answers, metrics)))
    assert httpx.get(page, trust_env=False, timeout=DEADLINE).status_code == 200
    assert start("status", coordinator).exit_code() == 0
    assert start("resume", coordinator).exit_code() == 0
    demo.said(r"^round 4/4: 20 clients")
    demo.said(r"^worst 10 % ")
    assert demo.said(r"^page: (\S+)$")[1] == page
    assert [run["state"] for run in httpx.get(f"{page}api/runs", trust_env=False).json()["runs"]] == ["finished"]
    (run,) = (path.parent for path in tmp_path.glob("runs/*/run.db"))
    assert of_tensorboard(tmp_path / "runs/tensorboard" / run.name) == expected(run)
    assert sorted(file.name for file in logs.glob("*.jsonl")) == [
        "coordinator.jsonl",
        "worker-1.jsonl",
        "worker-2.jsonl",
    ]
    for file in logs.glob("*.jsonl"):
        assert all(json.loads(line)["time"] for line in file.read_text().splitlines())


def test_it_leaves_nobody_behind_and_says_why_it_has_failed(demo: Process, start: Start, tmp_path: Path) -> None:
    coordinator = demo.said(r"^steering +\S+ pause (\S+),")[1]
    page = re.findall(r"http://(\S+)/", demo.stdout)[0]
    until(lambda: start("pause", coordinator).exit_code() == 0)
    where = Path(PROGRAM).parent, page
    (tmp_path / "other/examples").mkdir(parents=True)
    (tmp_path / "other/examples/digits.toml").write_text((tmp_path / "examples/digits.toml").read_text())
    other = Process(*where, cwd=tmp_path / "other", env={}, program=str(ROOT / "tools/demo-seen"))
    assert other.exit_code() == 1
    assert "cannot listen there: the address is in use" in other.stderr
    demo.send(signal.SIGTERM)
    assert demo.exit_code() == 130
    assert start("status", coordinator).exit_code() != 0
