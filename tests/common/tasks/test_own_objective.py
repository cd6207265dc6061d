"""What a task file says beside its model and data: objective, collate, options; data of any structure."""

import multiprocessing
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.pruning.parameters import digest, named_tensors
from lotteryfl.common.tasks import Task, load_task
from lotteryfl.common.tasks.sampling import draw_examples, draw_shuffled
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.loaded import Loaded
from lotteryfl.common.training.loop import train
from lotteryfl.common.training.objectives import HuggingFace, Regression
from lotteryfl.common.training.score import Score
from lotteryfl.common.training.structure import Rows

BASE = """
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset
import lotteryfl
Regression = lotteryfl.objectives.Regression

def model():
    return nn.Linear(4, 1)

def numbers(k):
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(k))
    return x, x.sum(dim=1)

def client(k, experiment):
    return [numbers(3 * k + part) for part in range(3)]
"""


def load(tmp_path: Path, code: str, task: dict[str, Any] | None = None, **sections: Any) -> Task:
    path = tmp_path / "mine.py"
    path.write_text(BASE + code)
    table = {"clients": 4, "clients_per_round": 4, "task": {"name": str(path), **(task or {})}, **sections}
    return load_task(validate(table, "test"), [str(path)])


def trained(task: Task, client: int = 1) -> str:
    """The bits of a model that has learned of a client, and been measured on it."""
    torch.manual_seed(0)
    model, data = task.model(), task.client_data(client)
    train(model, data.train, epochs=2, lr=0.05, batch_size=5, objective=task.objective)
    found = evaluate(model, data.test, batch_size=5, objective=task.objective)
    return digest(named_tensors(model)) + f" {found.loss}"


@pytest.mark.parametrize(
    "code",
    [
        "objective = Regression('mae')\n",
        "class objective(Regression):\n    def __init__(self):\n        super().__init__('mae')\n",
        "def objective():\n    return Regression('mae')\n",
        "def objective(experiment):\n    return Regression(experiment.task.options['loss'])\n",
        "objective = lambda loss='mae': Regression(loss)\n",
    ],
)
def test_an_objective_is_one_or_makes_one_of_the_experiment(tmp_path: Path, code: str) -> None:
    task = load(tmp_path, code, {"options": {"loss": "mae"}})
    assert isinstance(task.objective, Regression)
    assert task.score == Score("r2", own=True)
    assert trained(task) == trained(load(tmp_path, "objective = Regression('mae')\n"))


def test_the_experiment_names_a_ready_one_for_a_task_that_gives_none(tmp_path: Path) -> None:
    task = load(tmp_path, "", {"objective": "regression"})
    assert trained(task) == trained(load(tmp_path, "objective = Regression()\n"))
    assert isinstance(load(tmp_path, "", {"objective": "hugging-face"}).objective, HuggingFace)
    assert load(tmp_path, "").objective is None
    with pytest.raises(TaskError, match=r"task\.objective = 'binary': expected none beside the task's own$"):
        load(tmp_path, "objective = Regression()\n", {"objective": "binary"})


@pytest.mark.parametrize(
    "code",
    [
        "def model(experiment):\n    return nn.Linear(4, experiment.task.options['width'])\n",
        "def model(settings, /):\n    return nn.Linear(4, settings.task.options['width'])\n",
        "def model(width=7, experiment=None):\n    return nn.Linear(4, width)\n",
    ],
)
def test_a_model_may_read_the_experiment_and_its_own_options(tmp_path: Path, code: str) -> None:
    assert load(tmp_path, code, {"options": {"width": 7}}).model().weight.shape == (7, 4)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def objective():\n    return 1 / 0\n", r"objective failed at {path}:\d+: ZeroDivisionError"),
        (
            "objective = nn.MSELoss\n",
            r"objective failed in {path}: TypeError: MSELoss, expected a lotteryfl\.Objective",
        ),
        (
            "class objective(Regression):\n    score = 'accuracy'\n",
            r"objective failed in {path}: OutputError: objective\.score = 'accuracy': expected one of its metrics: r2",
        ),
        (
            "class objective(Regression):\n    def metrics(self):\n        import not_installed_anywhere\n",
            r"objective failed at {path}:\d+: ModuleNotFoundError: No module named 'not_installed_anywhere'",
        ),
        ("collate = 3\n", r"collate in {path} is int, expected a function"),
    ],
)
def test_an_objective_that_is_none_is_one_line_with_its_place(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(TaskError, match=f"^task mine: {message.format(path=re.escape(str(tmp_path / 'mine.py')))}"):
        load(tmp_path, code)


def test_dp_sgd_with_a_loss_of_no_mean_is_refused_where_the_task_is_loaded(tmp_path: Path) -> None:
    code = "class objective(Regression):\n    mean_over_examples = False\n"
    with pytest.raises(TaskError, match=r"privacy\.dp_sgd: needs a loss that is a mean over examples, and objective"):
        load(tmp_path, code, privacy={"dp_sgd": True})


# ---- data of any structure: what is learned of it has the same bits

PAIRED = "objective = Regression()\n"
BY_NAME = """
class objective(Regression):
    def outputs(self, model, batch):
        return model(batch["x"])
    def loss(self, outputs, batch):
        return super().loss(outputs, (None, batch["y"]))
    def update(self, metrics, outputs, batch):
        super().update(metrics, outputs, (None, batch["y"]))
"""
DEEP = BY_NAME.replace('batch["x"]', 'batch["in"][0]["x"]')
OF_THREE = BY_NAME.replace('batch["x"]', "batch[0]").replace('batch["y"]', "batch[2]")
ROWS = """
class Data(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y
    def __len__(self):
        return len(self.x)
    def __getitem__(self, i):
        return {item}
"""


def returning(each: str) -> str:
    return (
        f"\ndef client(k, experiment):\n    return [{each} for x, y in (numbers(3 * k + part) for part in range(3))]\n"
    )


STRUCTURES = {
    "arrays": PAIRED + returning("(x.numpy(), y.double().numpy())"),
    "a column for each number": PAIRED + returning("(x, y[:, None])"),
    "a list of pairs": PAIRED + returning("list(zip(x, y))"),
    "a dict in memory": BY_NAME + returning("{'x': x, 'y': y.numpy()}"),
    "three tensors in memory": OF_THREE + returning("(x, x, y)"),
    "dicts": BY_NAME + ROWS.format(item="{'x': self.x[i], 'y': self.y[i]}") + returning("Data(x, y)"),
    "dicts of lists": BY_NAME
    + ROWS.format(item="{'x': self.x[i].tolist(), 'y': float(self.y[i])}")
    + returning("Data(x, y)"),
    "nested": DEEP + ROWS.format(item="{'in': [{'x': self.x[i]}], 'y': self.y[i]}") + returning("Data(x, y)"),
    "ragged, packed by a collate": (
        BY_NAME
        + ROWS.format(item="(self.x[i][: i % 4 + 1], self.x[i][i % 4 + 1 :], self.y[i])")
        + returning("Data(x, y)")
        + "def collate(examples):\n    return {'x': torch.stack([torch.cat(e[:2]) for e in examples]),"
        " 'y': torch.stack([e[2] for e in examples])}\n"
    ),
    "tensors by a collate": (
        BY_NAME + returning("(x, y)") + "def collate(examples):\n    x, y = zip(*examples)\n"
        "    return {'x': torch.stack(x), 'y': torch.stack(y)}\n"
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_data_of_every_structure_teach_the_same(tmp_path: Path, name: str) -> None:
    assert trained(load(tmp_path, STRUCTURES[name])) == trained(load(tmp_path, PAIRED))


STREAM = """
class Stream(IterableDataset):
    def __init__(self, x, y):
        self.x, self.y = x, y
    def __iter__(self):
        return iter(zip(self.x, self.y))
"""
WITH_LENGTH = "    def __len__(self):\n        return 7\n"
WITH_STEPS = "    steps_per_epoch = 2\n"


@pytest.mark.parametrize(("bound", "seen", "steps"), [(WITH_LENGTH, 7, 2), (WITH_STEPS, 10, 2)])
def test_a_stream_is_read_in_its_order_as_far_as_it_says(tmp_path: Path, bound: str, seen: int, steps: int) -> None:
    task = load(tmp_path, PAIRED + STREAM + bound + returning("Stream(x, y)"))
    torch.manual_seed(0)
    model, twin, data = task.model(), task.model(), task.client_data(1)
    twin.load_state_dict(model.state_dict())
    result = train(model, data.train, epochs=1, lr=0.05, batch_size=5, objective=task.objective)
    assert (result.examples, result.steps) == (seen, steps)
    x, y = task.client_data(1).train.x[:seen], task.client_data(1).train.y[:seen]  # type: ignore[attr-defined]
    optimizer = torch.optim.SGD(twin.parameters(), 0.05)
    for inputs, numbers in zip(x.split(5), y.split(5), strict=True):
        optimizer.zero_grad()
        (twin(inputs).squeeze(1) - numbers).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(model.state_dict(), twin.state_dict())
    assert evaluate(model, draw_examples(data.test, 3, 0), objective=task.objective).examples == 3
    assert evaluate(model, draw_shuffled(data.test, 4, 0), objective=task.objective).examples == 4


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            STREAM + returning("Stream(x, y)"),
            r"Stream has no length: expected a map-style data set, or an iterable one",
        ),
        (STREAM + "    steps_per_epoch = 0\n" + returning("Stream(x, y)"), r"Stream: steps_per_epoch = 0$"),
        (returning("iter(zip(x, y))"), r"zip can be read only once: expected an iterable data set, which begins anew"),
        (returning("(x, y[:3])"), r"12 inputs but 3 labels$"),
        (returning("{'x': x, 'y': y[:3]}"), r"tensors of shapes \(12, 4\), \(3,\): expected a row for each example in"),
        (returning("{'x': x, 'y': 'no'}"), r"y are str: expected a tensor, a numpy array or a list$"),
        (returning("x"), r"is Tensor, expected a map-style Dataset or a pair"),
    ],
)
def test_data_that_are_none_are_one_line(tmp_path: Path, code: str, message: str) -> None:
    task = load(tmp_path, PAIRED + code)
    with pytest.raises(TaskError, match=rf"client 0 of task mine: train from client\(\) in \S+mine\.py:? .*{message}"):
        task.client_data(0)


def test_ragged_examples_without_a_collate_are_one_line(tmp_path: Path) -> None:
    task = load(tmp_path, PAIRED + ROWS.format(item="(self.x[i][: i % 4 + 1], self.y[i])") + returning("Data(x, y)"))
    with pytest.raises(ValueError, match=r"^data: examples do not go together as they are, and need a collate\(exa"):
        trained(task)


def test_drawing_keeps_how_examples_are_read(tmp_path: Path) -> None:
    rows = Rows({"x": torch.arange(9)})
    drawn = draw_examples(rows, 3, 0)
    assert isinstance(drawn, Rows)
    assert len(drawn) == 3
    read = Loaded(TensorDataset(torch.arange(9)), collate=len)
    again = draw_shuffled(read, 4, 0)
    assert isinstance(again, Loaded)
    assert (again.collate, len(again)) == (len, 4)


def test_processes_read_the_same_and_end_with_the_training(tmp_path: Path) -> None:
    code = BY_NAME + ROWS.format(item="{'x': self.x[i], 'y': self.y[i]}") + returning("Data(x, y)")
    expected = trained(load(tmp_path, code))
    task = load(tmp_path, code, training={"loader_workers": 1})
    assert trained(task) == expected
    assert multiprocessing.active_children() == []
