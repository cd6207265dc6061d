"""Records in folders are settings, and `lotteryfl rank` says whether strategies differ over them."""

import json
from pathlib import Path

import numpy as np
import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.ranking.blocks import blocks_of, common_labels
from lotteryfl.ranking.ranked import ranked, text
from lotteryfl.records import Record, record_of, write_record
from lotteryfl.running.scripts import simulate
from tests.records.conftest import small_experiment
from tests.support.processes import Process

WORTH = {"good": 0.9, "fair": 0.8, "poor": 0.5}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A real run's."""
    path = tmp_path_factory.mktemp("ranking") / "ticket-seed0"
    simulate(small_experiment(), path).close()
    return record_of(path)


def put(record: Record, path: Path, worth: float, seed: int = 0) -> None:
    assert record.clients is not None
    scores = tuple(round(worth + 0.01 * client, 6) for client in record.clients.client)
    changed = record.model_copy(
        update={
            "experiment": record.experiment.model_copy(update={"seed": seed}),
            "scores": record.scores.model_copy(update={"personalised": float(np.mean(scores))}),
            "clients": record.clients.model_copy(update={"personalised": scores}),
        }
    )
    write_record(changed, path)


def fill(record: Record, root: Path, blocks: int) -> None:
    """`good` lies above the densities: it has none."""
    for block in range(blocks):
        for seed in (0, 1):
            put(record, root / f"alpha-{block}" / f"good-seed{seed}.json", WORTH["good"] + 0.02 * seed, seed)
            for label in ("fair", "poor"):
                path = root / f"alpha-{block}" / "density-0.1" / f"{label}-seed{seed}.json"
                put(record, path, WORTH[label] + 0.02 * seed, seed)


def test_a_folder_is_a_block_and_what_lies_above_counts_to_it(record: Record, tmp_path: Path) -> None:
    fill(record, tmp_path / "set", 2)
    put(record, tmp_path / "set" / "alpha-0" / "density-0.1" / "rare-seed0.json", 0.7)
    blocks = blocks_of([tmp_path / "set"])
    assert [block.name for block in blocks] == ["set/alpha-0/density-0.1", "set/alpha-1/density-0.1"]
    assert common_labels(blocks) == ["fair", "poor", "good"]
    found = ranked(blocks, "personalised")
    assert found.ranking.labels == ("good", "fair", "poor")
    assert found.seeds == ((0, 1), (0, 1))
    assert found.means["fair"] == pytest.approx([0.82, 0.82])  # 3 clients: + 0.01 in the mean, and as much by seeds
    assert found.left_out == ("rare",)
    assert "Not decidable: too few blocks (2) for 3 strategies" in text(found, "simple")
    for each in found.to_best["poor"]:
        assert each is not None
        assert tuple(each) == pytest.approx((-0.4, -0.4, -0.4))


def test_named_strategies_are_ranked_over_the_blocks_that_have_them(record: Record, tmp_path: Path) -> None:
    fill(record, tmp_path / "set", 2)
    put(record, tmp_path / "set" / "alpha-0" / "density-0.1" / "rare-seed0.json", 0.7)
    found = ranked(blocks_of([tmp_path / "set"]), "personalised", ["good", "rare", "poor"])
    assert found.ranking.labels == ("good", "rare", "poor")
    assert [block.name for block in found.blocks] == ["set/alpha-0/density-0.1"]
    assert (found.without, found.left_out, found.seeds) == (("set/alpha-1/density-0.1",), ("fair",), ((0,),))
    assert "Passed over, without records of all that are ranked: set/alpha-1/density-0.1." in text(found, "simple")


def test_a_setting_counts_once(record: Record, tmp_path: Path) -> None:
    """Twice the blocks would tell strategies apart that one set of them cannot."""
    fill(record, tmp_path / "set", 2)
    with pytest.raises(LotteryFLError, match=r"density-0\.1: is in two of the folders: expected every setting once"):
        blocks_of([tmp_path / "set", tmp_path / "set" / "alpha-1"])


def test_a_setting_is_not_passed_over_for_another_of_its_name(record: Record, tmp_path: Path) -> None:
    fill(record, tmp_path / "a" / "set", 1)
    fill(record, tmp_path / "b" / "set", 1)
    (tmp_path / "b" / "set" / "alpha-0" / "good-seed0.json").unlink()
    (tmp_path / "b" / "set" / "alpha-0" / "good-seed1.json").unlink()
    found = ranked(blocks_of([tmp_path / "a" / "set", tmp_path / "b" / "set"]), "personalised", list(WORTH))
    assert (found.ranking.blocks, found.without) == (1, ("set/alpha-0/density-0.1",))


def test_a_strategy_that_is_named_twice_is_ranked_once(record: Record, tmp_path: Path) -> None:
    fill(record, tmp_path / "set", 1)
    found = ranked(blocks_of([tmp_path / "set"]), "personalised", ["good", "fair", "good", "poor"])
    assert found.ranking.labels == ("good", "fair", "poor")


def test_over_enough_blocks_it_says_who_is_better(record: Record, tmp_path: Path) -> None:
    fill(record, tmp_path, 8)
    said = text(ranked(blocks_of([tmp_path]), "personalised"), "github")
    assert "Friedman over 8 blocks: χ² = 16.00, p < 0.001" in said
    assert "good is better than poor." in said
    assert "Not decidable against fair." in said


def test_seeds_that_not_all_have_do_not_count(record: Record, tmp_path: Path) -> None:
    fill(record, tmp_path, 1)
    put(record, tmp_path / "alpha-0" / "good-seed2.json", 0.1, seed=2)
    assert ranked(blocks_of([tmp_path]), "personalised").means["good"] == pytest.approx([0.92])


@pytest.mark.parametrize(
    ("labels", "by", "said"),
    [
        (["good", "fair", "none"], "personalised", "none: no block has a record of it: expected of fair, poor, good"),
        (["good", "fair"], "personalised", "expected 3 strategies or more"),
        ([], "on_global", "has no score 'on_global'"),
    ],
)
def test_what_cannot_be_ranked_is_said(
    labels: list[str], by: object, said: str, record: Record, tmp_path: Path
) -> None:
    fill(record, tmp_path, 1)
    with pytest.raises(LotteryFLError, match=said):
        ranked(blocks_of([tmp_path]), by, labels)  # type: ignore[arg-type]


def test_the_command_writes_text_figures_and_picture(record: Record, tmp_path: Path) -> None:
    pytest.importorskip("scikit_posthocs")
    fill(record, tmp_path / "records", 4)
    called = Process("rank", "records", "--out", "out", cwd=tmp_path, env={})
    assert called.exit_code() == 0, called.stderr
    assert "good is better than poor." in called.stdout
    figures = json.loads((tmp_path / "out" / "rank.json").read_text())
    assert [each["label"] for each in figures["strategies"]] == ["good", "fair", "poor"]
    assert figures["critical_difference"] == pytest.approx(1.657, abs=0.001)  # 2.343 · √(3 · 4 / (6 · 4))
    assert (tmp_path / "out" / "rank.png").read_bytes().startswith(b"\x89PNG")
    assert "| good" in (tmp_path / "out" / "rank.md").read_text()

    (tmp_path / "empty").mkdir()
    nothing = Process("rank", "empty", cwd=tmp_path, env={})
    assert (nothing.exit_code(), nothing.error_line) == (
        1,
        "empty: no records: expected what `lotteryfl submit` writes",
    )
