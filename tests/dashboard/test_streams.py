"""What is new reaches who looks, once, also who comes back: by a real process over a run that is driven by hand."""

import asyncio
import gc
import weakref
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.longrun import write_long_run
from lotteryfl.dashboard.catalogue import Catalogue
from lotteryfl.dashboard.live import Live
from lotteryfl.dashboard.reading.reader import read_snapshot
from lotteryfl.dashboard.reading.thinning import series
from lotteryfl.dashboard.stream import Cursor, Viewer, cursor_of
from lotteryfl.dashboard.watched import WatchedRun
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.work import Step
from tests.conftest import Drive
from tests.support.bench import Bench, tiny_experiment
from tests.support.pages import Browser, cursor_round, next_of
from tests.support.runs import Start
from tests.support.waiting import until


def commit_a_round(bench: Bench) -> None:
    worker = bench.register()
    while bench.coordinator.advance() is not Step.COMMIT:
        bench.do_all(worker)
    bench.run.remove(bench.coordinator.commit(bench.coordinator.closed_round().conclude()))


def test_rounds_and_events_come_as_they_happen(drive: Drive, start: Start) -> None:
    bench = drive(tiny_experiment(rounds=5))
    with Browser.at(start("dashboard", bench.path)) as browser:
        overview = browser.get("/api/runs/run")
        assert overview["series"]["round"] == []
        events = browser.events(after=overview["cursor"])
        assert next_of(events, "status").data["state"] == "running"
        commit_a_round(bench)
        first = next_of(events, "rounds")
        assert (first.data["round"], cursor_round(first)) == ([1], 1)
        assert next_of(events, "status").data["open_round"] == 2
        worker = bench.register("mallory")
        bench.coordinator.advance()
        answer = bench.do(bench.take(worker))
        answer.entries["kept/0.weight"] *= float("nan")
        assert bench.submit(worker, answer).verdict == pb.SubmitReply.REFUSED
        happened = (each for event in events if event.kind == "events" for each in event.data["events"])
        refused = next(each for each in happened if each["kind"] == "refused")
        assert (refused["worker"], refused["round"]) == ("mallory", 2)
        assert refused in browser.get("/api/runs/run/events")["events"]
        assert browser.get("/api/runs")["runs"][0]["state"] == "running"
        bench.close()
        stopped = next(event for event in events if event.kind == "status" and event.data["state"] != "running")
        assert (stopped.data["state"], stopped.data["time_left"]) == ("stopped", None)
        until(lambda: browser.get("/api/runs")["runs"][0]["state"] == "stopped")


def test_who_comes_back_to_another_process_has_lost_nothing(drive: Drive, start: Start) -> None:
    """The page's process and the coordinator are both gone in between."""
    bench = drive(tiny_experiment(rounds=5))
    commit_a_round(bench)
    first = start("dashboard", bench.path)
    with Browser.at(first) as browser:
        known = next_of(browser.events(), "status").id
    first.end()
    for _ in range(2):
        commit_a_round(bench.restart())
    with Browser.at(start("dashboard", bench.path)) as browser:
        events = browser.events(last=known, after="00000000.0.0")
        missed = next_of(events, "rounds")
        assert missed.data["round"] == [2, 3]
        assert missed.data == {**browser.get("/api/runs/run/series", **{"from": 2}), "thinned": False}
        commit_a_round(bench)
        assert next_of(events, "rounds").data["round"] == [4]


def test_who_knows_another_run_reads_all_anew(drive: Drive, start: Start) -> None:
    bench = drive()
    bench.finish()
    with Browser.at(start("dashboard", bench.path)) as browser:
        kinds = []
        for event in browser.events(after="01234567.3.9"):
            kinds.append(event.kind)
            if event.kind == "fleet":
                break
        assert kinds == ["reset", "status", "fleet"]
        assert [event.kind for event in islice(browser.events(after="<script>"), 2)] == ["status", "fleet"]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "run"
    write_long_run(path, clients=3, rounds=300)
    return path


def test_who_has_missed_much_reads_all_anew(long_run: Path) -> None:
    run, snapshot = WatchedRun("run", long_run, Live()), read_snapshot(long_run)
    now = cursor_of(run, snapshot)
    assert now.round == 300

    def kinds(cursor: Cursor) -> list[bytes]:
        return [event.split(b"\n")[0] for event in Viewer(run, cursor).news(snapshot)]

    state = [b"event: status", b"event: fleet"]
    assert kinds(now) == state
    assert kinds(now._replace(round=100)) == [b"event: rounds", *state]
    assert kinds(now._replace(round=99)) == [b"event: reset", *state]
    assert kinds(now._replace(round=301)) == [b"event: reset", *state]


def test_thinned_series_are_of_real_rounds_and_lose_no_peak(long_run: Path) -> None:
    rounds = read_snapshot(long_run).rounds
    whole, thin = series(rounds, 4000), series(rounds, 40)
    assert (whole["thinned"], thin["thinned"], thin["total"]) == (False, True, 300)
    assert len(thin["round"]) <= 40
    assert (thin["round"][0], thin["round"][-1]) == (1, 300)
    for name in ("downloaded", "personalised", "train_loss"):
        values = dict(zip(whole["round"], whole[name], strict=True))
        assert [values[number] for number in thin["round"]] == thin[name]
        assert {min(whole[name]), max(whole[name])} <= set(thin[name])
    closer = series(rounds, 40, first=100, last=120)
    assert (closer["round"], closer["thinned"]) == (list(range(100, 121)), False)


def test_nothing_is_held_when_nobody_looks(long_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look() -> None:
        catalogue = Catalogue([long_run], Live())
        run = catalogue.get("run")
        assert run
        snapshot = await run.snapshot()
        facts, rounds = weakref.ref(snapshot.facts), weakref.ref(snapshot.rounds)
        del snapshot
        assert facts() is not None
        assert not catalogue.forget_idle()
        monkeypatch.setattr("lotteryfl.dashboard.catalogue._IDLE_SECONDS", -1.0)
        assert catalogue.forget_idle()
        await asyncio.sleep(0)  # what has read it is over
        gc.collect()
        assert facts() is rounds() is None
        assert not run.is_held
        assert (await run.snapshot()).rounds.last == 300

    asyncio.run(look())
