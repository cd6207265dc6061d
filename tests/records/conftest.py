"""Two small runs of the real digits, of two seeds, and what they came to."""

from pathlib import Path

import pytest

from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.running.scripts import simulate


def small_experiment(**changes: object) -> Experiment:
    table: dict[str, object] = {
        "rounds": 2,
        "clients": 4,
        "clients_per_round": 2,
        "training": {"epochs": 1},
        "strategy": {"accuracy_threshold": 0.0},
        "evaluation": {"global_every": 1, "new_clients": 1},
        "task": {"model": "mlp"},
    }
    return validate(table | changes, "test")


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    path = tmp_path_factory.mktemp("records") / "ticket-seed0"
    simulate(small_experiment(), path).close()
    return path
