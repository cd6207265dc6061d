"""Every ready objective under every kind of plan: pruned, averaged, measured for saliency, exchanging weights."""

from pathlib import Path
from typing import Any

import pytest

from lotteryfl.common.tensors.file import open_file
from tests.support.bench import simulated, tiny_experiment
from tests.support.objectivetasks import PROBLEMS, ObjectiveTask

STRATEGIES: dict[str, dict[str, Any]] = {
    "lotteryfl": {},
    "fedavg": {},
    "ssfl": {},
    "feddst": {"readjust_every": 1},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("objective", PROBLEMS)
def test_every_ready_objective_runs_under_every_kind_of_plan(objective: str, strategy: str, tmp_path: Path) -> None:
    experiment = tiny_experiment(
        clients=2,
        clients_per_round=2,
        rounds=2,
        training={"lr": 0.05},
        strategy={"name": strategy, **STRATEGIES[strategy]},
    )
    task = ObjectiveTask(objective)
    with simulated(tmp_path, experiment, task) as run:
        assert run.state == "finished"
        assert all(tensor.isfinite().all() for tensor in open_file(run.model_path(2)).values())
        assert run.score == task.score
