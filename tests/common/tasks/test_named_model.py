"""A task's model by `task.model`: a library's, or a function of a module that the operator allowed."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.tasks import load_task

MODELS = """
import torch
from torch import nn
def make(experiment, width=7):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, experiment.clients))
def plain(): return nn.Linear(2, 2)
def none(): return 7
def fails(): raise RuntimeError("no luck")
number = 3
"""

TASK = "import torch\ndef client(k, experiment): return [(torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64))] * 3\n"


@pytest.fixture
def models(tmp_path: Path) -> str:
    path = tmp_path / "own_models.py"
    path.write_text(MODELS)
    return str(path)


@pytest.fixture
def task(tmp_path: Path) -> str:
    path = tmp_path / "own_task.py"
    path.write_text(TASK)
    return str(path)


def experiment_of(**task: Any) -> Experiment:
    return validate({"task": task}, "test")


def widths(model: nn.Module) -> list[int]:
    return [module.out_features for module in model.modules() if isinstance(module, nn.Linear)]


def test_a_built_in_task_takes_a_model_of_ones_own(models: str) -> None:
    by_file = load_task(experiment_of(model=f"{models}:make"), [models]).model()
    elsewhere = load_task(experiment_of(model="/not/here/own_models.py:make?width=9"), [models]).model()
    assert widths(by_file) == [7, 20]
    assert widths(elsewhere) == [9, 20]
    again = load_task(experiment_of(model="own_models:make"), [models]).model()
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), by_file.parameters(), strict=True))


def test_a_task_without_a_model_takes_the_one_that_is_named(models: str, task: str) -> None:
    assert widths(load_task(experiment_of(name=task, model=f"{models}:plain"), [task, models]).model()) == [2]
    with pytest.raises(TaskError, match=r"own_task.py has no function model\(\)"):
        load_task(experiment_of(name=task), [task])
    Path(task).write_text(TASK + "def model(): raise NotImplementedError\n")
    with pytest.raises(TaskError, match=r"task.model = '.*own_models.py:plain': expected none beside model\(\) in .*o"):
        load_task(experiment_of(name=task, model=f"{models}:plain"), [task, models])


def test_a_module_that_the_operator_did_not_name_is_not_imported(models: str, task: str) -> None:
    Path(models).write_text("raise SystemExit('imported')\n")
    for allowed in ([], [task]):
        with pytest.raises(
            TaskError, match=r"^model own_models:make is not installed here: name its file with --task; "
        ):
            load_task(experiment_of(model=f"{models}:make"), allowed)
    with pytest.raises(TaskError, match=r"own_models:make: import failed at .*own_models.py:1: SystemExit: imported"):
        load_task(experiment_of(model=f"{models}:make"), [models])


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("absent", r"own_models.py has no function absent\(\)"),
        ("number", r"own_models.py has no function number\(\)"),
        ("none", r"none\(\) in .*own_models.py returned int, expected a torch.nn.Module"),
        ("fails", r"fails\(\) failed at .*own_models.py:8: RuntimeError: no luck"),
        ("plain?width=3", r"plain\(\) failed in .*: TypeError: .*unexpected keyword argument 'width'"),
    ],
)
def test_what_is_no_model_is_named(models: str, function: str, reason: str) -> None:
    with pytest.raises(TaskError, match=f"^model own_models:.*{reason}"):
        load_task(experiment_of(model=f"{models}:{function}"), [models]).model()


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    task = load_task(experiment_of(name="cifar10", model=f"{library}:x"))
    reason = rf"^task.model = '{library}:x': {library} is not installed here: pip install 'lotteryfl\[{library}\]'$"
    with pytest.raises(TaskError, match=reason):
        task.model()


def test_a_librarys_model_is_for_images(models: str) -> None:
    with pytest.raises(TaskError, match=r"task.model = 'timm:resnet18': takes images, and task har has none"):
        load_task(experiment_of(name="har", model="timm:resnet18"))
    assert load_task(experiment_of(name="har", model=f"{models}:plain"), [models]).model()
