"""A page beside the coordinator whose run it shows: live, and nothing to the run when it hangs, dies or comes back."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lotteryfl.feed import News, packed, read_news
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.page import ShownPage
from tests.support.handworker import HandWorker
from tests.support.pages import Browser, address_of, next_of
from tests.support.processes import Gate, free_port
from tests.support.runs import GATED_TASK, Coordinate, Start, Write, read_summary
from tests.support.waiting import DEADLINE

HERE = ["--listen=127.0.0.1:0"]


def page_of(pid: int) -> int:
    """Return the number of the page's process that another has started."""

    def is_page(child: str) -> bool:
        return b"lotteryfl.dashboard" in Path(f"/proc/{child}/cmdline").read_bytes()

    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(child) for child in children if is_page(child))


@pytest.mark.slow
def test_a_run_is_watched_to_its_end(tmp_path: Path, start: Start, write: Write, gate: Gate) -> None:
    path = write(rounds=1, clients=2, clients_per_round=2)
    arguments = [path, "--workers=1", "--run-dir=run", "--dashboard=127.0.0.1:0"]
    run = start("run", *arguments, env=gate.env)
    with Browser.at(run) as browser:
        visit = gate.arrival()
        events = browser.events()
        fleets = (event.data for event in events if event.kind == "fleet")
        worker = next(each for fleet in fleets for each in fleet["workers"] if each["holdings"])
        assert (worker["name"], worker["state"], worker["device"]) == ("worker-1", "working", "cpu")
        assert visit.client in {holding["client"] for holding in worker["holdings"]}
        overview = browser.get("/api/runs/run")
        assert (overview["status"]["live"], overview["fleet"]["alive"]) == (True, 1)
        gate.open()
        last = next(event for event in events if event.kind == "status" and event.data["state"] == "finished")
        assert last.data["round"] == 1
    assert run.exit_code() == 0, run.stderr
    assert "the page has ended" not in run.stderr
    assert read_summary(tmp_path / "run")


@pytest.mark.slow
def test_a_coordinator_that_is_killed_comes_back_with_its_page(tmp_path: Path, start: Start, write: Write) -> None:
    """At the same address, and who looked has lost nothing; as tests/page has it in a browser."""
    at = f"--dashboard=127.0.0.1:{free_port()}"
    first = start("serve", write(), "--listen=127.0.0.1:0", "--run-dir=run", at)
    with Browser(address := address_of(first)) as browser:
        overview = browser.get("/api/runs/run")
        first.send(signal.SIGKILL)
        first.exit_code()
        again = start("serve", "run", "--listen=127.0.0.1:0", f"--task={GATED_TASK}", at)
        assert address_of(again) == address
        (event,) = next_of(browser.events(last=overview["cursor"]), "events").data["events"]
        assert (event["kind"], event["id"]) == ("started", 1 + overview["events"]["events"][0]["id"])
        page = page_of(again.pid)
        os.kill(page, signal.SIGKILL)
        assert again.said(r"^the page has ended: (.*)$")[1] == "ended by signal 9; the run goes on without it"
    again.end()


def test_a_page_elsewhere_asks_the_coordinator(start: Start, coordinate: Coordinate, write: Write) -> None:
    server = coordinate(write())
    HandWorker(server, "hand")
    with Browser.at(start("dashboard", server.run.path, "--coordinator", server.address)) as browser:
        fleets = (event.data for event in browser.events("served") if event.kind == "fleet")
        live = next(fleet for fleet in fleets if fleet["source"] == "live")
        assert [(each["name"], each["state"]) for each in live["workers"]] == [("hand", "idle")]
        assert browser.get("/api/runs")["runs"][0]["live"]


def shown(
    path: Path, options: list[str], scene: Callable[[ShownPage, list[str], list[pb.Fleet]], Awaitable[None]]
) -> list[str]:
    """Show a page while a scene plays with it; return what was noted. The scene fills in what workers are at."""
    notes: list[str] = []
    fleets = [pb.Fleet()]

    async def fleet() -> pb.Fleet:
        return fleets[-1]

    async def play() -> None:
        page = ShownPage(path, options, fleet, notes.append)
        page.show(pb.RunStatus(rounds=7))
        async with page.shown():
            await scene(page, notes, fleets)

    asyncio.run(play())
    return notes


async def noted(notes: list[str], count: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while len(notes) < count:
            await asyncio.sleep(0.01)


def test_a_page_that_hangs_is_not_waited_for(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has not read is dropped, and it is ended with the run."""
    monkeypatch.setattr("lotteryfl.running.page._STOP_SECONDS", 0.2)
    monkeypatch.setattr("lotteryfl.running.page._EVERY", 0.001)

    async def scene(page: ShownPage, notes: list[str], fleets: list[pb.Fleet]) -> None:
        await noted(notes, 1)
        number = page_of(os.getpid())
        os.kill(number, signal.SIGSTOP)
        worker = pb.WorkerStatus(aside="x" * 1000)
        fleets.append(pb.Fleet(workers=[worker] * 1000))
        for _ in range(100):  # as many megabytes
            page.show(pb.RunStatus(rounds=8))
            await asyncio.sleep(0.005)
        assert page.unread < 2 << 20

    notes = shown(finished_run, HERE, scene)
    assert [note.partition(" ")[0] for note in notes] == ["page:"]


def test_a_page_that_cannot_be_shown_is_a_line(finished_run: Path) -> None:
    async def scene(page: ShownPage, notes: list[str], fleets: list[pb.Fleet]) -> None:
        await noted(notes, 1)

    (note,) = shown(finished_run, ["--listen=203.0.113.1:1"], scene)
    assert note.startswith("the page has ended: 203.0.113.1:1: other machines can reach it")
    assert note.endswith("; the run goes on without it")


def test_news_come_through_the_pipe_until_it_says_what_is_none() -> None:
    news = News(pb.RunStatus(rounds=3), pb.Fleet(round=2))

    async def read(content: bytes) -> list[News]:
        pipe = asyncio.StreamReader()
        pipe.feed_data(content)
        pipe.feed_eof()
        return [each async for each in read_news(pipe)]

    whole = packed(news)
    assert asyncio.run(read(whole * 2)) == [news, news]
    for broken in (whole[:-1], whole[:3], b"\xff" * 8, b"\0\0\0\x02\0\0\0\0\xff\xff"):
        assert asyncio.run(read(whole + broken)) == [news]
