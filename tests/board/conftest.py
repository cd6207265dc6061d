"""The records of a race of four, one of them on nobody's front, over two seeds."""

from pathlib import Path

import pytest

from lotteryfl.records import Record, record_of
from lotteryfl.running.scripts import simulate
from tests.records.conftest import small_experiment
from tests.support.recorded import rival, write

RIVALS = {"cheap": (0.5, 1_000_000), "good": (0.9, 8_000_000), "middle": (0.7, 3_000_000), "worse": (0.6, 9_000_000)}


@pytest.fixture(scope="package")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    path = tmp_path_factory.mktemp("board") / "run"
    simulate(small_experiment(), path).close()
    return record_of(path)


@pytest.fixture
def records(record: Record, tmp_path: Path) -> Path:
    found = {
        f"{name}-seed{seed}": rival(record, name, seed, score + 0.02 * seed, sent)
        for name, (score, sent) in RIVALS.items()
        for seed in (0, 1)
    }
    return write(tmp_path / "records", found)
