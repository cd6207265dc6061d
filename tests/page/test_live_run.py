"""A run is followed while it goes on: what comes, what fails, who is late, and that nothing is missed in between."""

import math
import signal
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.work import Step
from tests.conftest import Drive
from tests.page.browser import needs_browser
from tests.page.conftest import Look
from tests.page.serving import serving
from tests.support.bench import tiny_experiment
from tests.support.handworker import HandWorker
from tests.support.processes import free_port
from tests.support.runs import GATED_TASK, Start, Write

pytestmark = needs_browser

HOSTILE = "<img src=x onerror=caught=1><script>caught=1"
"""Without a /, before which a name says whose it is."""
REFUSED = "#events tbody tr:has(.badge:text-is('refused'))"
LATE = "#events tbody tr:has(.badge:text-is('late'))"


def do(worker: HandWorker, results: int) -> None:
    for _ in range(results):
        assert worker.submit(worker.work().messages()).verdict == pb.SubmitReply.ACCEPTED


def test_a_run_is_followed_to_its_end(tmp_path: Path, start: Start, write: Write, look: Look) -> None:
    """On the way are a worker whose name is a script, a result that is refused, and a coordinator that is killed.

    The page comes back by itself, without a round or an event missing or shown twice.
    """
    at = ("--dashboard", f"127.0.0.1:{free_port()}")
    with serving(start, write(rounds=2), "--run-dir", "run", *at) as server:
        viewer = look(server.page, may_end=True)
        viewer.shows("#state", "running")
        viewer.shows("#tiles", "0 of 2")
        worker = HandWorker(server, HOSTILE)
        done = worker.work()
        viewer.shows("#workers tbody th", HOSTILE)
        viewer.shows("#workers td.doing", "client")

        next(iter(done.entries.values())).fill_(math.nan)
        assert worker.submit(done.messages()).verdict == pb.SubmitReply.REFUSED
        expect(viewer.shows(REFUSED, HOSTILE)).to_contain_text("finite")
        viewer.shows("#says", f"{HOSTILE}: 1 result refused")

        do(worker, 2)
        viewer.shows("#tiles", "round 1: 2 of 3")
        do(worker, 1)
        viewer.shows("#tiles", "1 of 2")
        server.process.send(signal.SIGKILL)
        viewer.shows("#connection", "Connection lost")
        server.process.exit_code()
    with serving(start, tmp_path / "run", "--task", GATED_TASK, *at) as server:
        viewer.shows("#connection", "Connected")
        assert {reply.verdict for reply in HandWorker(server).finish()} == {pb.SubmitReply.ACCEPTED}
        viewer.shows("#state", "finished")
        viewer.shows("#tiles", "2 of 2")
        assert server.process.exit_code() == 0
    viewer.page.get_by_text("Density as a table").click()
    assert viewer.column(".chart details[open]", 0) == ["1", "2", "3"]
    assert viewer.column("#events", 1).count("started") == 2
    assert viewer.page.evaluate("window.caught") is None
    assert viewer.page.locator("main img, main script").count() == 0


def test_a_straggler_is_shown_as_it_happens(drive: Drive, start: Start, look: Look) -> None:
    """By the directory of a coordinator whose clock is the test's."""
    bench = drive(tiny_experiment(round={"deadline": 100, "lease": 100, "min_results": 1}))
    slow, worker = bench.register("slow"), bench.register("other")
    client = bench.take(slow).assignment.client
    for _ in range(2):
        bench.submit(worker, bench.do(bench.take(worker)))
    viewer = look(start("dashboard", bench.path).said(r"^page: (\S+)")[1])
    viewer.page.get_by_text("Who waits for whom").click()
    viewer.shows("#says", f"client {client} waits for slow")
    assert viewer.page.locator(LATE).count() == 0
    while bench.coordinator.advance() is not Step.COMMIT:
        bench.now += 5.0
        bench.coordinator.heartbeat(slow, [])
    bench.run.remove(bench.coordinator.commit(bench.coordinator.closed_round().conclude()))
    expect(viewer.shows(LATE, "slow")).to_contain_text(str(client))
    viewer.shows("#tiles", "1 of 2")
    viewer.shows("#says", f"Client {client} sat out 1 round, last 1")


@pytest.mark.slow
def test_a_straggler_of_a_real_coordinator_is_shown(start: Start, write: Write, look: Look) -> None:
    """It takes as long as a round does that waits for somebody."""
    timing = {"lease": 25.0, "deadline": 25.0, "min_results": 1}
    with serving(start, write(round=timing), "--run-dir", "run", "--dashboard", "127.0.0.1:0") as server:
        viewer = look(server.page)
        client = HandWorker(server, "slow").poll()[0].assignment.client
        do(HandWorker(server), 2)
        viewer.page.get_by_text("Who waits for whom").click()
        viewer.shows("#says", f"client {client} waits for slow")
        expect(viewer.shows(LATE, "slow")).to_contain_text(str(client))
        viewer.shows("#tiles", "1 of 3")
        viewer.shows("#says", f"Client {client} sat out 1 round, last 1")
