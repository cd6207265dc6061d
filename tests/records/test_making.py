"""A record says what its run came to, in little, and nothing that is nobody's business."""

import getpass
import json
import platform
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import lotteryfl
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.training.score import ACCURACY, Score
from lotteryfl.records import read_record, record_of, write_record
from lotteryfl.records.curves import chosen
from lotteryfl.records.files import to_text
from lotteryfl.records.naming import named
from lotteryfl.records.placeless import told
from tests.records.conftest import small_experiment
from tests.support.bench import simulated, tiny_experiment


def test_it_says_what_the_run_came_to(finished: Path) -> None:
    record = record_of(finished)
    with lotteryfl.open_run(finished) as view:
        rounds, summary = view.rounds(), view.summary()
    assert (record.model_sha256, record.tickets_sha256) == (summary["model_sha256"], summary["tickets_sha256"])
    assert (record.down, record.up) == (summary["bytes"]["down"], summary["bytes"]["up"])
    assert record.rounds.sent[-1] == record.down + record.up
    assert np.diff(record.rounds.sent).tolist() == (rounds["bytes_down"] + rounds["bytes_up"]).tolist()[1:]
    assert record.rounds.personalised == pytest.approx(rounds["accuracy_personalised"].tolist(), rel=1e-5)
    accuracy = summary["accuracy"]
    assert record.scores.worst_tenth == pytest.approx(accuracy["personalised_worst_decile"], rel=1e-5)
    assert record.scores.new_personalised == pytest.approx(summary["new_clients"]["personalised"], rel=1e-5)
    assert record.clients is not None
    assert np.mean(record.clients.personalised) == pytest.approx(accuracy["personalised_last"], rel=1e-5)
    assert record.shared is not None
    assert record.shared.round == (0, 1, 2)
    assert record.workers == 0
    assert record.experiment == small_experiment()


def test_it_is_read_again_as_it_was_written_and_written_the_same(finished: Path, tmp_path: Path) -> None:
    record = record_of(finished)
    write_record(record, tmp_path / "new" / "a.json")
    assert read_record(tmp_path / "new" / "a.json") == record
    assert (tmp_path / "new" / "a.json").read_text() == to_text(record) == to_text(record_of(finished))
    assert len(to_text(record)) < 60_000
    with pytest.raises(LotteryFLError, match=r"a\.json: holds the record of another experiment"):
        write_record(record.model_copy(update={"experiment": small_experiment(seed=1)}), tmp_path / "new" / "a.json")


def test_nothing_in_it_says_where_or_by_whom_it_was_made(finished: Path) -> None:
    text = to_text(record_of(finished))
    assert str(finished.parent) not in text
    names = {platform.node(), getpass.getuser()} - {"root", "localhost", ""}
    assert not [name for name in names if name in text]


def test_places_and_secrets_of_an_experiment_are_not_told() -> None:
    options = {"folder": "/home/me/data", "relative": "../x", "uri": "s3://bucket/x", "api_key": "s", "token": 5}
    experiment = small_experiment(
        task={
            "name": "/home/me/mine.py",
            "data_dir": "/data",
            "initial": "/x.safetensors",
            "options": options | {"k": "plain"},
        },
        access={"workers": {"hospital": "0-3"}},
    )
    bare, withheld = told(experiment)
    assert (bare.task.name, bare.task.data_dir, bare.task.options) == ("mine", "", {"k": "plain"})
    assert withheld == ("task.initial", *(f"task.options.{key}" for key in options))
    assert bare.access.workers == {}


def test_where_privacy_is_promised_no_client_is_told_of(tmp_path: Path) -> None:
    experiment = tiny_experiment(
        strategy={"name": "fedavg"},
        privacy={"dp_sgd": True, "noise_multiplier": 1.0},
        aggregation={"weighting": "equal"},
    )
    simulated(tmp_path / "run", experiment).close()
    record = record_of(tmp_path / "run")
    assert record.privacy is not None
    assert record.privacy.epsilon > 0
    assert record.clients is None
    assert record.scores.worst_tenth is None
    table = json.loads(to_text(record))
    assert "loss" not in json.dumps({key: value for key, value in table.items() if key != "experiment"})


def test_a_run_that_has_not_finished_has_none(tmp_path: Path, finished: Path) -> None:
    from lotteryfl.common.tasks import load_task
    from lotteryfl.server.rounds.setup import set_up

    experiment = small_experiment()
    set_up(tmp_path / "run", experiment, load_task(experiment, ())).close()
    with pytest.raises(LotteryFLError, match=r"run: the run has not finished \(it is running\)"):
        record_of(tmp_path / "run")


def test_a_run_that_is_not_sound_has_none(tmp_path: Path, finished: Path) -> None:
    import shutil

    shutil.copytree(finished, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as database, database:
        database.execute("UPDATE run SET value = replace(value, 'a', 'b') WHERE key = 'model_sha256'")
    with pytest.raises(LotteryFLError, match=r"run: is not sound, 1 problem: `lotteryfl verify"):
        record_of(tmp_path / "run")


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LotteryFLError, match="both are called x"):
        named([tmp_path / "a" / "x", tmp_path / "b" / "x"])


@pytest.mark.parametrize("score", [ACCURACY, Score("mae", higher_is_better=False, own=True)])
def test_a_thinned_curve_has_every_best_and_its_ends(score: Score) -> None:
    random = np.random.default_rng(3)
    curves = [np.cumsum(random.normal(size=400)).tolist() for _ in range(2)]
    kept = chosen(curves, score, 150)
    assert len(kept) == 150
    assert kept == sorted(set(kept))
    assert {0, 399} <= set(kept)
    for curve in curves:
        for target in np.linspace(min(curve), max(curve), 50):
            first = next((at for at, value in enumerate(curve) if score.rank(value) >= score.rank(target)), None)
            assert first == next((at for at in kept if score.rank(curve[at]) >= score.rank(target)), None)


def test_a_curve_that_is_always_better_is_thinned_all_the_same() -> None:
    kept = chosen([list(range(400))], ACCURACY, 100)
    assert len(kept) == 100
    assert max(np.diff(kept)) <= 5
