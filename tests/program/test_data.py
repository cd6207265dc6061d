import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lotteryfl.common.errors import LotteryFLError, TaskError
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.tasks import load_task
from lotteryfl.program import program
from lotteryfl.server.results.holdings import holdings
from lotteryfl.server.results.picture import draw_holdings
from lotteryfl.server.results.skew import label_skew


def run(tmp_path: Path, *options: str, text: str = "") -> Result:
    path = tmp_path / "experiment.toml"
    path.write_text(text)
    return CliRunner().invoke(program, ["data", str(path), *options])


def test_the_table_is_what_the_clients_hold(tmp_path: Path) -> None:
    result = run(tmp_path, "--set", "clients=10", "--set", "clients_per_round=10")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("digits, n-class, 2 classes each: 10 clients, seed 0\n")
    rows = {name: line for name, *line in (re.split(r"\s{2,}", line) for line in result.output.splitlines())}
    assert rows["training examples"] == ["32", "32.0", "32"]
    assert rows["classes"] == ["2", "2.0", "2"]
    task = load_task(Experiment(clients=10, clients_per_round=10))
    tests = [len(task.client_data(client).test) for client in range(10)]  # type: ignore[arg-type]
    assert rows["test examples"] == [str(min(tests)), f"{np.mean(tests):.1f}", str(max(tests))]
    assert "label skew 0.800 (0: all mixes equal; 0.900: one class each)" in result.output


def test_angles_are_named_where_they_are_what_differs(tmp_path: Path) -> None:
    text = '[partition]\nkind = "feature-skew"\nrotations = 8\n'
    result = run(tmp_path, "--set", "clients=3", "--set", "clients_per_round=3", text=text)
    assert "feature-skew, 8 rotations: 3 clients" in result.output
    assert "images turned by 0°, 45°, 90°\n" in result.output


CUSTOM = """
import torch
from torch.utils.data import Dataset

class Letters(Dataset):
    def __init__(self, labels): self.labels = labels
    def __len__(self): return len(self.labels)
    def __getitem__(self, index): return torch.zeros(2), self.labels[index]

def model(): return torch.nn.Linear(2, 5)

def client(k, experiment):
    pair = (torch.zeros(2, 2), torch.tensor([k, k]))
    return Letters([k, 4, 4]), pair, pair
"""


def test_a_client_whose_data_cannot_be_read_is_named(tmp_path: Path) -> None:
    own = str(tmp_path / "own.py")
    Path(own).write_text(CUSTOM.replace("return torch.zeros(2), self.labels[index]", "raise OSError('no disk')"))
    task = load_task(validate({"clients": 2, "clients_per_round": 2, "task": {"name": own}}, "test"), [own])
    with pytest.raises(TaskError, match=r"^client 0 of task own: OSError at own\.py:8: no disk$"):
        holdings(task, 2)


def test_a_task_of_ones_own_is_counted_from_what_it_gives(tmp_path: Path) -> None:
    (tmp_path / "letters.py").write_text(CUSTOM)
    text = 'clients = 2\nclients_per_round = 2\n[task]\nname = "letters.py"\n'
    result = run(tmp_path, text=text)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("letters: 2 clients, seed 0\n"), "dealt as nobody has said"
    own = str(tmp_path / "letters.py")
    table = {"clients": 2, "clients_per_round": 2, "task": {"name": own}}
    held = holdings(load_task(validate(table, "test"), [own]), 2)
    assert held.counts.tolist() == [[3, 0, 0, 0, 2], [0, 3, 0, 0, 2]]
    assert held.sizes.tolist() == [[3, 2, 2], [3, 2, 2]]


def test_the_tensors_that_can_be_pruned_are_listed_and_why_others_cannot(tmp_path: Path) -> None:
    result = run(tmp_path, "--prunable", "--set", "clients=2", "--set", "clients_per_round=2")
    assert result.exit_code == 0, result.output
    rows = dict(line.split(maxsplit=1) for line in result.output.splitlines() if ".weight" in line or ".bias" in line)
    reasons = {name: row.split(maxsplit=1)[1] for name, row in rows.items()}
    assert set(reasons.values()) == {"prunable", "no weight by its name"}
    assert all(name.endswith("weight") is (reason == "prunable") for name, reason in reasons.items())
    (tmp_path / "lazy.py").write_text(CUSTOM.replace("torch.nn.Linear(2, 5)", "torch.nn.LazyLinear(5)"))
    text = 'clients = 2\nclients_per_round = 2\n[task]\nname = "lazy.py"\n'
    result = run(tmp_path, "--prunable", text=text)
    assert str(result.exception) == "task lazy: 'weight' is not initialised: run a batch through the model first"


@pytest.mark.parametrize("clients", [1, 20, 61])
@pytest.mark.parametrize("classes", [1, 2, 62])
def test_pictures_of_every_size(clients: int, classes: int, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    counts = np.random.default_rng(0).integers(0, 40, (clients, classes))
    counts[:, 0] += 1
    path = tmp_path / "picture.png"
    draw_holdings(counts, "task", label_skew(counts), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_many_clients_are_ordered_by_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    shown = []
    original = Axes.imshow
    monkeypatch.setattr(
        Axes, "imshow", lambda axes, mixes, **options: shown.append(mixes) or original(axes, mixes, **options)
    )
    counts = np.random.default_rng(0).permutation(np.eye(10, dtype=int).repeat(10, axis=0)) * 5
    draw_holdings(counts, "task", 0.9, tmp_path / "picture.png")
    np.testing.assert_array_equal(shown[0], np.eye(10).repeat(10, axis=1))


def test_the_command_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "held.svg"
    result = run(tmp_path, "--picture", str(picture))
    assert result.output.endswith(f"{picture} written\n")
    assert "<svg" in picture.read_text()


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(LotteryFLError, match=r"pip install 'lotteryfl\[report\]'"):
        draw_holdings(np.ones((2, 2), dtype=int), "task", 0, tmp_path / "picture.png")


@pytest.mark.parametrize(
    ("name", "message"), [("no/folder.png", "cannot be written: No such file"), ("x.docx", "docx")]
)
def test_a_picture_that_cannot_be_written(name: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(LotteryFLError, match=message):
        draw_holdings(np.ones((2, 2), dtype=int), "task", 0, tmp_path / name)


@pytest.mark.parametrize(
    "example",
    ["{'inputs': torch.zeros(2), 'labels': 1}", "(torch.zeros(2), 0.5)", "(torch.zeros(2), torch.tensor([1, -100]))"],
)
def test_of_a_task_without_classes_the_examples_alone_are_told(example: str, tmp_path: Path) -> None:
    text = CUSTOM.replace("return torch.zeros(2), self.labels[index]", f"return {example}")
    (tmp_path / "numbers.py").write_text(text.replace("Letters([k, 4, 4]), pair, pair", "[Letters([0, 1])] * 3"))
    own = 'clients = 2\nclients_per_round = 2\n[task]\nname = "numbers.py"\n'
    result = run(tmp_path, "--task", str(tmp_path / "numbers.py"), text=own)
    assert result.exit_code == 0, result.output
    assert re.search(r"^training examples +2 +2\.0 +2\n", result.output, re.MULTILINE)
    assert "\nlabels cannot be told: not every example is a pair whose label is an integer from 0 on\n" in result.output
    assert "label skew" not in result.output
    drawn = run(tmp_path, "--picture", str(tmp_path / "x.png"), text=own)
    assert str(drawn.exception).startswith(f"task numbers: --picture {tmp_path / 'x.png'}: it is of classes, and ")


def test_a_task_that_the_experiment_calls_by_its_name_is_that_of_the_option(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "letters.py").write_text(CUSTOM)
    text = 'clients = 2\nclients_per_round = 2\n[task]\nname = "letters"\n'
    result = run(tmp_path, "--task", str(tmp_path / "there" / "letters.py"), text=text)
    assert result.exit_code == 0, result.output
