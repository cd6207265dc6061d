import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment import experiment as experiment_file
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.tasks import BUILT_IN, Task, load_task
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"


def make_experiment(clients: int = 8, task: dict[str, Any] | None = None, **sections: Any) -> Experiment:
    table = {"clients": clients, "clients_per_round": clients, "task": task or {}, **sections}
    return validate(table, source="test")


def tensors(dataset: Dataset[Any]) -> tuple[Tensor, Tensor]:
    assert isinstance(dataset, TensorDataset)
    inputs, labels = dataset.tensors
    return inputs, labels


def assert_learnable(task: Task, client: int) -> None:
    """What a worker does: batches of every part go through the model and have a finite loss."""
    data = task.client_data(client)
    model = task.model().eval()
    for part in (data.train, data.validation, data.test):
        for inputs, labels in DataLoader(part, batch_size=64):
            assert inputs.dtype == torch.float32
            assert labels.dtype == torch.int64
            assert nn.functional.cross_entropy(model(inputs), labels).isfinite()


GOOD = """
import numpy as np
import torch
from torch import nn

def model():
    return nn.Linear(4, 2)

def client(k, experiment):
    x, y = torch.full((6, 4), float(k)), torch.tensor([0, 1, 0, 1, 0, 1])
    return (x, y), (x[:2], y[:2]), (x[2:], y[2:])
"""


def write_task(folder: Path, code: str = GOOD, name: str = "own_task") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(code)
    return str(path)


def load_own(path: str, **keys: Any) -> Task:
    return load_task(make_experiment(task={"name": path}, **keys), [path])


def test_task_ids() -> None:
    assert task_id("/x/custom_task.py") == "custom_task"
    assert task_id("custom_task.py") == "custom_task"
    assert task_id("/x/my.task.py") == "my.task"
    assert task_id(r"C:\tasks\custom_task.py") == "custom_task"
    assert task_id("package.tasks.custom_task") == "custom_task"
    assert task_id("custom_task") == "custom_task"
    assert all(task_id(name) == name for name in BUILT_IN)


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    task = load_own(write_task(tmp_path))
    assert task.name == "own_task"
    data = task.client_data(3)
    assert tensors(data.train)[0].eq(3).all()
    assert [len(tensors(part)[1]) for part in (data.train, data.validation, data.test)] == [6, 2, 4]
    assert_learnable(task, 3)


@pytest.mark.parametrize("name", ["own_task", "/somewhere/else/own_task.py", "package.own_task"])
def test_the_experiment_chooses_among_the_operators_tasks_by_name(tmp_path: Path, name: str) -> None:
    path = write_task(tmp_path)
    task = load_task(make_experiment(task={"name": name}), ["other.module", path])
    assert_learnable(task, 0)


def test_a_file_that_the_operator_did_not_name_never_runs(tmp_path: Path) -> None:
    path = write_task(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n" + GOOD)
    other = write_task(tmp_path / "mine", name="mine")
    for allowed in ([], [other]):
        with pytest.raises(TaskError) as caught:
            load_task(make_experiment(task={"name": path}), allowed)
        assert str(caught.value) == (
            "task 'own_task' is not installed here: name its file with --task; "
            f"built-in tasks are {', '.join(BUILT_IN)}"
        )
    assert not (tmp_path / "ran").exists()


def test_the_operators_file_runs_and_not_the_one_that_the_experiment_names(tmp_path: Path) -> None:
    theirs = write_task(tmp_path / "theirs", "raise SystemExit('must not run')")
    mine = write_task(tmp_path / "mine")
    assert_learnable(load_task(make_experiment(task={"name": theirs}), [mine]), 0)


def test_one_name_for_two_files_is_refused(tmp_path: Path) -> None:
    one, other = write_task(tmp_path / "a"), write_task(tmp_path / "b")
    with pytest.raises(TaskError, match=f"task 'own_task' is ambiguous: {one} and {other} have this name"):
        load_task(make_experiment(task={"name": "own_task"}), [one, other])
    same = os.path.relpath(one)
    assert_learnable(load_task(make_experiment(task={"name": "own_task"}), [one, same]), 0)


def test_the_name_of_a_built_in_task_is_taken(tmp_path: Path) -> None:
    path = write_task(tmp_path, name="digits")
    for named in (path, "digits"):
        with pytest.raises(TaskError, match=r"digits\.py: 'digits' is a built-in task; give your own another name"):
            load_task(make_experiment(task={"name": named}), [path])


def test_a_module_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(tmp_path / "a_package_of_mine", name="inner_task")
    (tmp_path / "a_package_of_mine" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    task = load_own("a_package_of_mine.inner_task")
    assert task.name == "inner_task"
    assert_learnable(task, 0)


@pytest.mark.parametrize("module", ["no_such_module_here", "no_such_package.module", "lotteryfl.nothing"])
def test_a_missing_module(module: str) -> None:
    with pytest.raises(TaskError, match=f"task {task_id(module)}: .*[Nn]o.* module .*{module.partition('.')[0]}"):
        load_own(module)


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "gone.py"
    with pytest.raises(TaskError, match=f"task gone: there is no file {path}"):
        load_own(str(path))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "x = 1\ny = 1 / 0\n",
            r"task own_task: import failed at {path}:2: ZeroDivisionError: division by zero",
        ),
        ("x = 1\n\nwe are here\n", r"task own_task: import failed at {path}:3: SyntaxError: "),
        ("import not_installed_anywhere\n", r"at {path}:1: ModuleNotFoundError: .*not_installed_anywhere"),
        ("import torch\ntorch.zeros(2) @ torch.zeros(3)\n", r"at {path}:2: RuntimeError: "),
        (
            GOOD.replace("def client", "def clients"),
            r"task own_task: {path} has no function client\(k, experiment\)",
        ),
        (
            GOOD.replace("def model()", "model = 1\ndef m()"),
            r"task own_task: {path} has no function model\(\)",
        ),
    ],
)
def test_a_file_that_is_not_a_task(tmp_path: Path, code: str, message: str) -> None:
    path = write_task(tmp_path, code)
    with pytest.raises(TaskError, match=message.format(path=path)):
        load_own(path)


def with_client(body: str) -> str:
    return GOOD.replace("    return (x, y), (x[:2], y[:2]), (x[2:], y[2:])", f"    {body}")


WHERE = r"client 3 of task own_task: {part} from client\(\) in {path}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "return None",
            r"client 3 of task own_task: client\(\) in {path} returned NoneType, expected ClientData or",
        ),
        (
            "return x, y",
            r"client\(\) in {path} returned tuple of 2, expected ClientData or \(train, val.*, test\)",
        ),
        (
            "return [x, y], (x, y), 7",
            WHERE.replace("{part}", "test") + " is int, expected a map-style Dataset",
        ),
        ("return (x, y, y), (x, y), (x, y)", WHERE.replace("{part}", "train") + " is tuple of 3, expected"),
        ("return x, (x, y), (x, y)", WHERE.replace("{part}", "train") + " is Tensor, expected"),
        ("return (x, y), (x, y[:3]), (x, y)", r"validation .* inputs have shape \(6, 4\), labels \(3,\)"),
        (
            "return (x, y), (x, y[:, None]), (x, y)",
            r"labels are torch.int64 of shape \(6, 1\), expected integers",
        ),
        ("return (x, y / 2), (x, y), (x, y)", r"labels are torch.float32 of shape \(6,\), expected integers"),
        (
            "return (np.array(['a'] * 6), y), (x, y), (x, y)",
            WHERE.replace("{part}", "train") + ": can't convert",
        ),
        ("return (x[:0], y[:0]), (x, y), (x, y)", r"^client 3 of task own_task: no training examples$"),
        ("return (x, y), (x[:0], y[:0]), (x, y)", r"^client 3 of task own_task: no validation examples$"),
        ("return (x, y), (x, y), (x[:0], y[:0])", r"^client 3 of task own_task: no test examples$"),
        ("return {}[k]", r"client 3 of task own_task: client\(\) failed at {path}:11: KeyError: 3"),
        ("return late(k)\n\ndef late(k):\n    return {}[k]", r"client\(\) failed at {path}:14: KeyError: 3"),
    ],
)
def test_what_client_must_not_return(tmp_path: Path, body: str, message: str) -> None:
    path = write_task(tmp_path, with_client(body))
    task = load_own(path)
    with pytest.raises(TaskError, match=message.format(path=path)):
        task.client_data(3)


def test_an_iterable_dataset_without_a_length_is_no_data(tmp_path: Path) -> None:
    code = with_client("return Stream(), Stream(), Stream()") + (
        "class Stream(torch.utils.data.IterableDataset):\n    def __iter__(self):\n        return iter([])\n"
    )
    with pytest.raises(TaskError, match=r"train .* Stream has no length: expected a map-style data set, or an iter"):
        load_own(write_task(tmp_path, code)).client_data(0)


def test_what_client_may_return(tmp_path: Path) -> None:
    bodies = {
        "numpy": "return [(x.double().numpy(), y.int().numpy())] * 3",
        "backwards": "return [(x.numpy()[::-1], y.numpy()[::-1])] * 3",
        "big-endian": "return [(x.numpy().astype('>f8'), y.numpy().astype('>i4'))] * 3",
        "lists": "return [[x, y], [x, y], [x, y]]",
        "datasets": "return [torch.utils.data.TensorDataset(x, y)] * 3",
        "subsets": "return [torch.utils.data.Subset(torch.utils.data.TensorDataset(x, y), [0, 1])] * 3",
        "clientdata": "from lotteryfl.common.tasks import ClientData; return ClientData((x, y), (x, y), (x, y))",
    }
    for name, body in bodies.items():
        # its folder goes before all others for good: a numpy.py there would be what a process begun later imports
        assert_learnable(load_own(write_task(tmp_path, with_client(body), f"returns_{name.replace('-', '_')}")), 2)


@pytest.mark.parametrize("client", [-1, 8])
def test_a_client_out_of_range_is_refused(client: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"client = {client}: expected 0 to 7"):
        load_own(write_task(tmp_path)).client_data(client)


def test_what_model_must_return(tmp_path: Path) -> None:
    path = write_task(tmp_path, GOOD.replace("nn.Linear(4, 2)", "nn.Linear"))
    with pytest.raises(TaskError, match=rf"task own_task: model\(\) in {path} returned type, expected a torch.nn.Mod"):
        load_own(path).model()
    path = write_task(tmp_path, GOOD.replace("nn.Linear(4, 2)", "nn.Linear(4)"), name="other")
    with pytest.raises(TaskError, match=rf"task other: model\(\) failed at {path}:7: TypeError: "):
        load_own(path).model()


def test_a_function_that_takes_no_experiment(tmp_path: Path) -> None:
    path = write_task(tmp_path, GOOD.replace("client(k, experiment)", "client(k)"))
    with pytest.raises(TaskError, match=rf"client\(\) failed in {path}: TypeError: client\(\) takes 1 positional"):
        load_own(path).client_data(0)


def test_a_dataclass_in_a_task_file_finds_its_module(tmp_path: Path) -> None:
    code = "from __future__ import annotations\n@__import__('dataclasses').dataclass\nclass A:\n    x: int = 1\n"
    assert_learnable(load_own(write_task(tmp_path, code + GOOD)), 0)


# ---- the examples


@pytest.mark.parametrize("name", ["digits", "custom_task"])
def test_the_examples_give_every_client_its_data(name: str) -> None:
    settings = experiment_file.load(EXAMPLES / f"{name}.toml")
    task = load_task(settings, [settings.task.name] if name == "custom_task" else [])
    assert task.name == name
    for client in range(settings.clients):
        assert_learnable(task, client)


def test_the_custom_example_is_short_and_its_clients_differ() -> None:
    assert len((EXAMPLES / "custom_task.py").read_text().splitlines()) < 40
    settings = experiment_file.load(EXAMPLES / "custom_task.toml")
    task = load_task(settings, [settings.task.name])
    shares = [tensors(task.client_data(k).train)[1].float().mean().item() for k in range(settings.clients)]
    assert max(shares) - min(shares) > 0.5


def test_a_partition_error_of_the_users_code_keeps_its_sentence() -> None:
    settings = experiment_file.load(EXAMPLES / "custom_task.toml", ["partition.examples_per_client=1000"])
    task = load_task(settings, [settings.task.name])
    with pytest.raises(TaskError, match=r"custom_task\.py:\d+: TaskError: client \d+ needs \d+ training examples"):
        task.client_data(0)
