"""Which runs a comparison has, and what is said of one that makes no sense."""

from pathlib import Path

import pytest
import tomli_w

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import load
from lotteryfl.comparing.cells import Cell, plan_cells


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.toml"
    path.write_text(tomli_w.dumps({"rounds": 2, "strategy": {"prune_rate": 0.5}}))
    return path


def planned(experiment: Path, strategies: str, seeds: str = "0", *overrides: str) -> list[Cell]:
    return plan_cells(experiment, strategies, seeds, overrides, Path("out"))


def test_every_strategy_comes_with_every_seed_and_its_own_settings(experiment: Path) -> None:
    cells = planned(
        experiment,
        "fedavg,lotteryfl, fast=lotteryfl",
        "3,5",
        "rounds=4",
        "fast:strategy.prune_rate=0.9",
        "fast:rounds=6",
    )
    assert [str(cell.path) for cell in cells] == [
        *("out/fedavg-seed3", "out/lotteryfl-seed3", "out/fast-seed3"),
        *("out/fedavg-seed5", "out/lotteryfl-seed5", "out/fast-seed5"),
    ]
    loaded = [load(cell.source, cell.overrides) for cell in cells]
    found = [(e.seed, e.rounds, e.strategy.name, e.strategy.prune_rate) for e in loaded]
    assert found == [(s, *rest) for s in (3, 5) for rest in (
        (4, "fedavg", 0.5), (4, "lotteryfl", 0.5), (6, "lotteryfl", 0.9)
    )]  # fmt: skip


def test_a_colon_in_a_value_is_no_label(experiment: Path) -> None:
    (cell,) = planned(experiment, "lotteryfl", "0", "task.data_dir='a:b'")
    assert load(cell.source, cell.overrides).task.data_dir == "a:b"


@pytest.mark.parametrize(
    ("strategies", "seeds", "overrides", "message"),
    [
        ("fedavg,fedavg", "0", [], "fedavg': expected a label of its own"),
        ("../x=fedavg", "0", [], r"'\.\./x': expected a label of its own of letters"),
        ("fedavg,", "0", [], "'': expected a label of its own"),
        ("none", "0", [], "strategy.name = 'none'"),
        ("fedavg", "0,x", [], "--seeds 0,x: expected integers, as in 0,1,2"),
        ("fedavg", "1,1", [], "--seeds 1,1: expected each seed once"),
        ("fedavg", "-1", [], "seed = -1"),
        ("fedavg", "0", ["cell:rounds=3"], "--set cell:rounds=3: cell is none of the comparison's fedavg"),
        ("fedavg", "0", ["fedavg:rounds=0"], "rounds = 0"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_runs(
    experiment: Path, strategies: str, seeds: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(LotteryFLError, match=message):
        planned(experiment, strategies, seeds, *overrides)
