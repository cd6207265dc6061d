"""What the page's process says of a run, beside what its directory says to others."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest

from lotteryfl.dashboard.reading import events
from lotteryfl.dashboard.reading.clients import read_clients
from lotteryfl.dashboard.reading.masks import read_overlap
from lotteryfl.dashboard.reading.oneclient import read_client
from lotteryfl.dashboard.reading.rounds import Rounds, read_rounds
from lotteryfl.dashboard.reading.settings import experiment_of
from lotteryfl.dashboard.reading.standing import read_facts
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.reporting.overlap import jaccard
from lotteryfl.server.results.spread import spread
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.summaries import client_summaries, round_summaries
from tests.conftest import Drive
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment
from tests.support.pages import Browser
from tests.support.processes import Process
from tests.support.waiting import until

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 4 clients, with a result that was refused and a worker of an evil name."""
    path = tmp_path_factory.mktemp("runs") / "run"
    bench = Bench(path, tiny_experiment(), TinyTask())
    worker = bench.register(EVIL)
    bench.coordinator.advance()
    answer = bench.do(work := bench.take(worker))
    answer.entries["kept/0.weight"] *= float("nan")
    assert bench.submit(worker, answer).verdict == pb.SubmitReply.REFUSED
    assert work.assignment.round == 1
    bench.finish().close()
    return path


@pytest.fixture(scope="module")
def browser(path: Path) -> Iterator[Browser]:
    process = Process("dashboard", path, path.parent, cwd=path.parent, env={})
    try:
        with Browser.at(process) as browser_:
            yield browser_
    finally:
        process.end()


@pytest.fixture(scope="module")
def run(path: Path) -> Iterator[RunDirectory]:
    with RunDirectory(path, read_only=True) as run_:
        yield run_


def test_the_first_picture_is_one_answer(browser: Browser, run: RunDirectory) -> None:
    overview = browser.get("/api/runs/run")
    status = overview["status"]
    assert (status["state"], status["round"], status["rounds"], status["clients"]) == ("finished", 2, 2, 4)
    assert (status["open_round"], status["time_left"], status["live"]) == (None, None, False)
    assert status["score"] == {
        "name": "accuracy",
        "higher_is_better": True,
        "own": False,
        "values": ["accuracy", "loss"],
    }
    assert overview["run_id"] == run.run_id
    assert overview["series"] == browser.get("/api/runs/run/series")
    assert overview["fleet"]["source"] == "directory"
    assert {worker["state"] for worker in overview["fleet"]["workers"]} == {"gone"}
    assert overview["cursor"].split(".")[1] == "3"


def test_the_series_are_the_rounds_means_and_tenths(browser: Browser, run: RunDirectory) -> None:
    series = browser.get("/api/runs/run/series")
    summaries = round_summaries(run.database)
    assert series["round"] == [each.round for each in summaries] == [1, 2, 3]
    for column, name in (
        ("downloaded", "accuracy_downloaded"),
        ("personalised", "accuracy_personalised"),
        ("density", "density"),
        ("train_loss", "train_loss"),
        ("refused", "refused"),
        ("clients", "clients"),
    ):
        assert series[column] == pytest.approx([getattr(each, name) for each in summaries])
    assert series["refused"][0] == 1
    last = client_summaries(run.database, 3)
    scores = [each.score_personalised for each in last]
    assert series["worst_personalised"][-1] == pytest.approx(spread(scores).worst_decile)
    assert series["best_personalised"][-1] == pytest.approx(max(scores))
    assert series["sent"] == sorted(series["sent"])
    assert series["time"] == sorted(series["time"])


def test_clients_sort_and_filter(browser: Browser, run: RunDirectory) -> None:
    found = browser.get("/api/runs/run/clients", sort="personalised", order="desc")
    scores = {each.client: each.score_personalised for each in client_summaries(run.database, 3)}
    assert [row["personalised"] for row in found["clients"]] == sorted(scores.values(), reverse=True)
    assert {row["client"]: row["personalised"] for row in found["clients"]} == scores
    assert found["total"] == found["found"] == 4
    middle = sorted(row["density"] for row in found["clients"])[1]
    low = browser.get("/api/runs/run/clients", high=f"density:{middle}")
    assert {row["client"] for row in low["clients"]} == {
        row["client"] for row in found["clients"] if row["density"] <= middle
    }
    assert browser.get("/api/runs/run/clients", find="2")["clients"][0]["client"] == 2
    page = browser.get("/api/runs/run/clients", offset=1, limit=2)
    assert [row["client"] for row in page["clients"]] == [1, 2]


def test_one_client_with_its_mask_by_layer_and_who_served_it(browser: Browser, run: RunDirectory) -> None:
    found = browser.get("/api/runs/run/clients/1")
    row = run.database.client(1)
    kept = sum(layer["kept"] for layer in found["layers"])
    assert kept / sum(layer["size"] for layer in found["layers"]) == pytest.approx(row.density)
    assert found["row"]["mask"] == row.mask[:8]
    history = found["history"]
    assert len(set(map(len, history.values()))) == 1
    assert history["round"][-1] == 3
    assert sum(each["results"] for each in found["served_by"]) == history["state"].count("done")


def test_the_overlap_is_that_of_the_report(browser: Browser, run: RunDirectory) -> None:
    found = browser.get("/api/runs/run/overlap")
    masks = [run.load_masks(run.database.client(client).mask) for client in found["clients"]]
    assert found["of"] == len(found["clients"]) == len([row for row in run.database.clients() if row.mask]) > 1
    assert np.array(found["jaccard"]) == pytest.approx(jaccard(masks), abs=6e-4)


def test_the_time_line_has_a_bar_for_each_assignment(browser: Browser) -> None:
    found = browser.get("/api/runs/run/timeline")
    bars = found["bars"]
    assert found["rounds"] == [1, 2, 3]
    assert sorted(zip(bars["round"], bars["client"], strict=True))[-4:] == [(3, client) for client in range(4)]
    assert all(begin <= end for begin, end in zip(bars["begin"], bars["end"], strict=True))
    assert browser.get("/api/runs/run/timeline", round=3)["rounds"] == [3]
    assert browser.refused("/api/runs/run/timeline?round=77", 404) == "round 77: there is none"


def test_strangers_words_are_data(browser: Browser) -> None:
    """They are sent as they are, as JSON that no browser takes for anything else."""
    response = browser.client.get("/api/runs/run/events", params={"kind": "refused"})
    (event,) = response.json()["events"]
    assert (event["worker"], event["round"]) == (EVIL, 1)
    assert "finite" in event["text"] or "nan" in event["text"].lower()
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    workers = {each["worker"] for each in browser.get("/api/runs/run/clients/0")["served_by"]}
    assert workers


def test_the_experiment_says_what_is_no_default(browser: Browser) -> None:
    found = browser.get("/api/runs/run/experiment")
    keys = {(section["name"], key["key"]): key for section in found["sections"] for key in section["keys"]}
    assert keys["", "rounds"] == {"key": "rounds", "value": 2, "default": 30, "changed": True}
    assert not keys["training", "lr"]["changed"]
    assert "[training]" in found["toml"]


def test_options_that_are_called_secrets_have_no_value(tmp_path: Path) -> None:
    options = {"hub_token": "hf_1", "password": 918273645, "columns": 3}
    with simulated(tmp_path / "run", tiny_experiment(task={"options": options}), TinyTask()):
        pass
    with RunRecord(tmp_path / "run") as record:
        found = experiment_of(record)
    told = {(section["name"], key["key"]): key["value"] for section in found["sections"] for key in section["keys"]}
    assert told["task", "options"] == {"hub_token": "…", "password": "…", "columns": 3}
    assert not any(secret in str(found) for secret in ("hf_1", "918273645"))


def test_several_runs_side_by_side(browser: Browser, path: Path) -> None:
    """A run and the folder that it is in: it is there once."""
    names = [run["name"] for run in browser.get("/api/runs")["runs"]]
    assert names == ["run"]
    found = browser.client.get("/api/series", params={"run": ["run", "run"]}).json()
    assert found["runs"]["run"]["round"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("path_", "status"),
    [
        ("/api/runs/nobody", 404),
        ("/api/runs/..%2Frun", 404),
        ("/api/runs/run/clients/99", 404),
        ("/api/runs/run/clients/-1", 404),
        pytest.param(f"/api/runs/run/clients/{'9' * 5000}", 404, id="a number of 5,000 digits"),
        ("/api/runs/run/clients?sort=mask;DROP", 400),
        ("/api/runs/run/clients?low=worker:1", 400),
        ("/api/runs/run/clients?limit=999999", 400),
        ("/api/runs/run/series?points=-1", 400),
        ("/api/series", 400),
        ("/static/../app.py", 404),
        ("/static/%2e%2e/app.py", 404),
        ("/static//etc/passwd", 404),
        ("/static/js/%00", 404),
        ("/nowhere", 404),
    ],
)
def test_what_cannot_be_answered_is_one_line(browser: Browser, path_: str, status: int) -> None:
    request = httpx.Request("GET", f"{browser.client.base_url}x")
    response = browser.client.send(httpx.Request("GET", request.url.copy_with(raw_path=path_.encode())))
    assert response.status_code == status, response.text
    assert len(response.json()["error"].splitlines()) == 1


def test_the_directory_stays_as_it_is(browser: Browser, path: Path) -> None:
    before = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    for name in ("", "/clients", "/clients/0", "/overlap", "/timeline", "/events", "/experiment", "/workers"):
        browser.get(f"/api/runs/run{name}")
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == before


def test_a_damaged_run_is_said_to_be_so(browser: Browser, path: Path) -> None:
    """Beside one that is sound; a run that comes into the folder is shown."""
    (path.parent / "worse").mkdir()
    (path.parent / "worse" / "run.db").write_bytes(b"SQLite format 3\0 and no more")

    def listed() -> dict[str, str]:
        return {run["name"]: run["problem"] for run in browser.get("/api/runs")["runs"]}

    until(lambda: "worse" in listed())
    assert listed()["run"] == ""
    assert "run.db" in listed()["worse"]
    assert "run.db" in browser.refused("/api/runs/worse", 503)


def test_where_privacy_is_promised_single_clients_are_withheld(finished_run: Path) -> None:
    """By the experiment that the run is bound to."""
    with RunDirectory(finished_run, read_only=True) as run:
        private = {"noise": "client", "clip_norm": 1.0}
        privacy = run.experiment.privacy.model_copy(update=private)
        run.experiment = run.experiment.model_copy(update={"privacy": privacy})
        rows = read_clients(run)
        assert {row["personalised"] for row in rows} == {row["density"] for row in rows} == {None}
        assert {row["mask"] for row in rows} == {row["examples"] for row in rows} == {None}
        client = read_client(run, rows[1])
        assert client["layers"] == []
        assert not any(client["history"]["personalised"])
        assert not any(client["history"]["examples"])
        assert client["history"]["bytes_up"]
        assert read_overlap(run)["clients"] == []
        columns = read_rounds(run.database, run.experiment, Rounds()).columns
        assert set(columns["train_loss"]) == set(columns["worst_personalised"]) == {None}
        assert None not in columns["personalised"]


def test_of_an_earlier_version_events_are_told_without_their_table(finished_run: Path) -> None:
    with closing(sqlite3.connect(finished_run / "run.db")) as database, database:
        database.execute("DELETE FROM events")
        database.execute("UPDATE rounds SET retries = 1, reason = 'too few' WHERE round = 1")
        database.execute("INSERT INTO refusals VALUES (1, 2, 0, 1, 'mallory', 'not finite')")
    with RunDirectory(finished_run, read_only=True) as run:
        found = events.page(run.database, events.Wanted())
        assert [(each["kind"], each["round"], each["text"]) for each in found["events"]] == [
            ("refused", 2, "not finite"),
            ("round-retry", 1, "too few"),
        ]
        assert not found["kept"]
        assert json.dumps(found)


def test_a_run_that_is_paused_says_so_until_it_goes_on(drive: Drive) -> None:
    bench = drive()
    said = []
    steering = bench.coordinator.steering
    for steered in (steering.pause, steering.pause, steering.resume):
        steered("dash", "")
        said.append(read_facts(bench.run, Rounds()).paused)
    assert said == ["paused by dash", "paused by dash", ""]
