"""What the board says of records follows from them: means over seeds, bytes to a share of the best, the front."""

from pathlib import Path
from typing import Any

import pytest

from lotteryfl.board.axes import Axis
from lotteryfl.board.entries import read_board
from lotteryfl.board.figures import best_of, judged_by, ranked, setting_figures, targets
from lotteryfl.board.front import Point, front
from lotteryfl.board.labels import distinctions, point_labels, race_title
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.training.score import ACCURACY, Score
from lotteryfl.protocols import protocol
from lotteryfl.records import Record
from lotteryfl.records.cost import SHARES
from lotteryfl.records.files import to_text
from lotteryfl.records.marks import mark
from tests.support.recorded import like, of_experiment, rival, write


def test_settings_are_seeds_together_the_best_first(records: Path) -> None:
    (race,) = read_board([records]).races
    race = ranked(race)
    assert [setting.record.experiment.strategy.name for setting in race.settings] == [
        "good",
        "middle",
        "worse",
        "cheap",
    ]
    assert best_of(race) == pytest.approx(0.91)
    assert targets(race) == pytest.approx([0.91 * share for share in SHARES])
    good, middle = (setting_figures(setting, race, targets(race)) for setting in race.settings[:2])
    assert good.personalised is not None
    assert (good.personalised.mean, good.personalised.std) == pytest.approx((0.91, 0.01))
    assert good.megabytes is not None
    assert good.megabytes.mean == 8
    assert [each and each.mean for each in good.megabytes_to] == pytest.approx([8 / 3, None], abs=1e-5)
    assert middle.megabytes_to == (None, None)


def test_bytes_to_the_best_are_those_of_the_first_round_that_is_as_good(record: Record, tmp_path: Path) -> None:
    best = like(
        rival(record, "a", 0, 0.8, 3000),
        {"rounds": {"sent": [10, 200, 3000], "personalised": [0.1, 0.795, 0.8]}},
    )
    (race,) = read_board([write(tmp_path / "r", {"a": best})]).races
    found = setting_figures(race.settings[0], race, targets(race))
    assert [each and each.mean for each in found.megabytes_to] == pytest.approx([200e-6, 200e-6])


def test_a_protocol_comes_first_and_by_what_the_experiment_is(record: Record, tmp_path: Path) -> None:
    is_it = of_experiment(record, protocol("ssfl-digits").experiment)
    says_so = like(record, protocol="ssfl-digits")
    board = read_board([write(tmp_path / "r", {"a": record, "b": is_it, "c": says_so})])
    assert [race.protocol and race.protocol.name for race in board.races] == ["ssfl-digits", None]
    assert [entry.name for entry in board.entries] == ["b", "a"]
    assert [left.name for left in board.left_out] == ["c"]
    assert "another experiment than that protocol's" in board.left_out[0].why


def test_one_seed_that_did_not_measure_the_shared_model_does_not_stop_the_board(record: Record, tmp_path: Path) -> None:
    whole = of_experiment(record, protocol("fedpruning-fedrts-cifar10").experiment)
    none: dict[str, dict[str, Any]] = {"scores": {"shared": None, "shared_best": None}, "experiment": {"seed": 1}}
    race = read_board([write(tmp_path / "r", {"a": whole, "b": like(whole, none, shared=None)})]).races[0]
    assert race.protocol is not None
    assert race.protocol.score == "shared"
    assert judged_by(race) == "personalised"
    assert setting_figures(ranked(race).settings[0], race, targets(race)).shared is None


def test_a_link_out_of_the_folder_is_left_out_and_nothing_of_it_is_told(records: Path, tmp_path: Path) -> None:
    secret = tmp_path / "credentials"
    secret.write_text('{"token": "hush"}')
    (records / "mine.json").symlink_to(secret)
    (left,) = read_board([records]).left_out
    assert left == ("mine", "is, or its mark is, a link to a file elsewhere: expected a file of the folder")
    (left,) = read_board([records, records / "mine.json"]).left_out
    assert "hush" in left.why, "named, it is read"


def test_experiments_with_other_data_are_no_race(record: Record, tmp_path: Path) -> None:
    other = like(record, {"experiment.partition": {"classes_per_client": 3}})
    board = read_board([write(tmp_path / "r", {"a": record, "b": other})])
    assert [race_title(race) for race in board.races] == [
        f"digits, mlp: 4 clients, 2 a round, {number} classes each, 1 of them new in the end" for number in (2, 3)
    ]


def test_of_a_task_of_ones_own_no_model_and_no_dealing_is_told_that_nobody_chose(
    record: Record, tmp_path: Path
) -> None:
    own: dict[str, dict[str, Any]] = {"experiment.task": {"name": "mine"}}
    dealt = {**own, "experiment.partition": {"kind": "dirichlet", "alpha": 0.3}}
    tables = {"a": like(record, own, task_sha256="0" * 64), "b": like(record, dealt, task_sha256="0" * 64)}
    assert [race_title(race) for race in read_board([write(tmp_path / "r", tables)]).races] == [
        "mine: 4 clients, 2 a round, Dirichlet 0.3, 1 of them new in the end",
        "mine: 4 clients, 2 a round, 1 of them new in the end",
    ]


def test_where_most_is_to_be_compared_comes_first(record: Record, tmp_path: Path) -> None:
    alone = like(rival(record, "a", 0, 0.5, 1000), {"experiment.partition": {"kind": "dirichlet"}})
    two = {name: rival(record, name, 0, 0.5, 1000) for name in ("b", "c")}
    board = read_board([write(tmp_path / "r", {"a": alone, **two})])
    assert [len(race.settings) for race in board.races] == [2, 1]


def test_a_point_has_the_density_of_the_table_behind_its_name(record: Record, tmp_path: Path) -> None:
    found = {}
    for seed, density in ((0, 0.2), (1, 0.4)):
        rows = {"clients": {"density": [density] * 3}, "rounds": {"density": [density] * len(record.rounds.round)}}
        found[f"a{seed}"] = like(rival(record, "a", seed, 0.5, 1000), rows, density=density)
    (race,) = read_board([write(tmp_path / "r", found)]).races
    assert point_labels(race) == ["a 0.3"]


def test_settings_of_one_strategy_are_told_apart(record: Record, tmp_path: Path) -> None:
    other = like(record, {"experiment.server": {"optimizer": "sgd"}}, workers=2)
    (race,) = read_board([write(tmp_path / "r", {"a": record, "b": other})]).races
    assert distinctions(race) == [
        ("server.optimizer = none", "in one process"),
        ("server.optimizer = sgd", "2 workers"),
    ]


def test_a_seed_counts_once_by_the_record_that_was_verified(record: Record, tmp_path: Path) -> None:
    folder = write(
        tmp_path / "r", {name: rival(record, "a", 0, score, 1000) for name, score in (("a", 0.5), ("b", 0.7))}
    )
    mark(folder / "b.json", "run again")
    ((setting,),) = (race.settings for race in read_board([folder]).races)
    assert [(entry.name, entry.verified) for entry in setting.members] == [("b", "run again"), ("a", None)]
    assert [entry.name for entry in setting.counted] == ["b"]
    assert setting.verified == "run again"
    (folder / "b.json").write_text(to_text(rival(record, "a", 0, 0.9, 1000)))
    ((setting,),) = (race.settings for race in read_board([folder]).races)
    assert setting.verified is None, "the record was changed after it was verified"


def test_what_is_no_record_is_left_out_and_named(records: Path) -> None:
    (records / "bad.json").write_text("{}")
    (records / "cheap-seed0.verified").write_text("[]")
    found = {left.name: left.why for left in read_board([records]).left_out}
    assert set(found) == {"bad", "cheap-seed0"}
    empty = records.parent / "empty"
    empty.mkdir()
    with pytest.raises(LotteryFLError, match="no records: expected files of `lotteryfl submit`"):
        read_board([empty])


@pytest.mark.parametrize(
    ("score", "expected"), [(ACCURACY, "ace"), (Score("mae", higher_is_better=False, own=True), "abd")]
)
def test_the_front_is_whom_none_beats_on_both(score: Score, expected: str) -> None:
    points = [
        Point(name, name, megabytes, value, 0.0)
        for name, megabytes, value in (
            ("e", 9.0, 0.9),
            ("a", 1.0, 0.5),
            ("b", 2.0, 0.4),
            ("c", 3.0, 0.7),
            ("d", 4.0, 0.1),
        )
    ]
    found = front(points, score)
    assert "".join(point.key for point in found) == expected
    for point in points:
        beaten = any(
            other.megabytes <= point.megabytes and score.rank(other.score) >= score.rank(point.score)
            for other in points
            if other is not point
        )
        assert (point in found) != beaten


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("values", [(0.5,), (0.1, 0.95), (1.0, 1000.0), (3.0, 3.0001), (1e-9, 1e9), (7e20, 8e20)])
def test_an_axis_has_all_values_and_few_round_ticks(values: tuple[float, ...], logarithmic: bool) -> None:
    axis = Axis.of(values, 10, 110, logarithmic=logarithmic)
    assert all(10 < axis.at(value) < 110 for value in values)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    assert all(axis.low <= tick <= axis.high for tick in ticks)
