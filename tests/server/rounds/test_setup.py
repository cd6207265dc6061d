"""From an experiment to a run directory: θ_0 from the seed alone, and mistakes found before anything starts."""

from pathlib import Path

import pytest
import torch

from lotteryfl.common.errors import ExperimentError, LotteryFLError, TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models import create_model
from lotteryfl.common.tensors.file import open_file
from lotteryfl.server.rounds.setup import create_run, open_or_create_run
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import tiny_experiment


def own_task(folder: Path, model: str) -> str:
    path = folder / "own_task.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        f"def model(): return {model}\n"
        "def client(k, experiment): raise NotImplementedError\n"
    )
    return str(path)


def initial(path: Path, experiment: Experiment, tasks: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    with create_run(path, experiment, tasks) as run:
        return {name: tensor.clone() for name, tensor in open_file(run.model_path(0)).items()}


def test_the_initial_model_comes_from_the_seed_alone(tmp_path: Path) -> None:
    first = initial(tmp_path / "a", tiny_experiment(seed=3))
    torch.manual_seed(999)
    state = torch.get_rng_state()
    again = initial(tmp_path / "b", tiny_experiment(seed=3, rounds=9))
    assert torch.equal(torch.get_rng_state(), state)
    other = initial(tmp_path / "c", tiny_experiment(seed=4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    create_model("digits", "mlp").load_state_dict(first, strict=True)


def test_no_gpu_is_asked_for_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two: a context on each would take its memory, and here there is none to ask."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    initial(tmp_path / "run", tiny_experiment())
    assert not torch.cuda.is_initialized()


def test_a_task_of_ones_own_is_set_up_by_its_file(tmp_path: Path) -> None:
    task = own_task(tmp_path, "nn.Linear(3, 2)")
    experiment = tiny_experiment(task={"name": task})
    assert initial(tmp_path / "run", experiment, (task,)).keys() == {"weight", "bias"}
    with pytest.raises(TaskError, match="'own_task' is not installed here"):
        create_run(tmp_path / "other", experiment, ())
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("model", "strategy", "error", "reason"),
    [
        (
            "nn.BatchNorm1d(3)",
            "lotteryfl",
            ExperimentError,
            "its model has nothing to prune .*strategy.prunable = 'matrices'",
        ),
        (
            "nn.LazyLinear(3)",
            "fedavg",
            TaskError,
            "task own_task: its model cannot travel: 'weight' is not initialised",
        ),
        (
            "nn.Linear(3, 2, dtype=torch.complex64)",
            "fedavg",
            TaskError,
            "cannot travel: 'weight' has dtype torch.complex64",
        ),
        ("nn.Linear(3, 2)", "guess", ExperimentError, "strategy.name = 'guess'"),
        (
            "type('Own', (nn.Linear,), {'__deepcopy__': lambda self, memo: self})(3, 2)",
            "fedavg",
            TaskError,
            "task own_task: a copy of its model by copy.deepcopy shares weight with it",
        ),
        (
            "[own := nn.Linear(3, 2), setattr(own, 'lines', (line for line in ()))][0]",
            "fedavg",
            TaskError,
            "task own_task: its model cannot be copied by copy.deepcopy, .*: TypeError: cannot pickle 'generator'",
        ),
        ("7", "fedavg", TaskError, "returned int, expected a torch.nn.Module"),
    ],
)
def test_a_model_or_strategy_that_will_not_do_is_named_and_nothing_is_left(
    tmp_path: Path, model: str, strategy: str, error: type[Exception], reason: str
) -> None:
    task = own_task(tmp_path, model)
    with pytest.raises(error, match=reason):
        create_run(tmp_path / "run", tiny_experiment(task={"name": task}, strategy={"name": strategy}), (task,))
    assert not (tmp_path / "run").exists()


def test_nothing_to_prune_does_not_hinder_who_does_not_prune(tmp_path: Path) -> None:
    task = own_task(tmp_path, "nn.BatchNorm1d(3)")
    for strategy in ("fedavg", "standalone"):
        experiment = tiny_experiment(task={"name": task}, strategy={"name": strategy})
        create_run(tmp_path / strategy, experiment, (task,)).close()
    settings = {"name": "lotteryfl", "prunable": "every-weight"}
    create_run(tmp_path / "every", tiny_experiment(task={"name": task}, strategy=settings), (task,)).close()


def test_a_run_is_taken_up_by_the_same_experiment_only(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with open_or_create_run(path, tiny_experiment(), ()) as run:
        run.database.put("mark", "here")
    with open_or_create_run(path, tiny_experiment(), ()) as run:
        assert run.database.get("mark") == "here"
    with pytest.raises(LotteryFLError, match="holds the run of another experiment"):
        open_or_create_run(path, tiny_experiment(training={"lr": 0.01}), ())
    with RunDirectory(path) as run:  # and the lock was let go
        assert run.experiment == tiny_experiment()
