"""A model of a run in other forms: smaller, as a graph, in float16, and together; its outputs are the model's."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from lotteryfl.commands.inspect import export
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.pruning.structured.resizing import load_structured
from lotteryfl.common.tasks import load_task
from lotteryfl.server.models.ticket import ticket_tensors
from lotteryfl.server.results.ticket import Form, export_global, export_ticket
from lotteryfl.server.rounds.setup import set_up
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import TinyTask, simulated, tiny_experiment
from tests.support.tensorfiles import header
from tests.support.torchvisionoperators import declare

TASK = """
import torch
from torch import nn

def model():
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))

def client(k, experiment):
    inputs = torch.randn(27, 6, generator=torch.Generator().manual_seed(k))
    labels = inputs[:, :3].argmax(dim=1)
    return [(inputs[part], labels[part]) for part in (slice(0, 12), slice(12, 18), slice(18, 27))]
"""


installed = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))), reason="needs lotteryfl[onnx]"
)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)).eval()


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("task") / "forms_task.py"
    path.write_text(TASK)
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, task: str) -> RunDirectory:
    experiment = tiny_experiment(rounds=4, task={"name": task}, strategy={"name": "hermes"}, clients_per_round=4)
    return simulated(tmp_path_factory.mktemp("forms") / "run", experiment, TinyTask())


def inputs(count: int = 5) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(1))


def ticket_of(run: RunDirectory, client: int = 1) -> nn.Module:
    model = mlp()
    model.load_state_dict(ticket_tensors(run, client))
    return model


@pytest.mark.parametrize("half", [False, True])
def test_a_smaller_ticket_does_the_same(run: RunDirectory, task: str, tmp_path: Path, half: bool) -> None:
    out = tmp_path / "small.safetensors"
    left = export_ticket(run, 1, out, form=Form(structured=True, half=half, tasks=[task]))
    tensors = safetensors.torch.load_file(out)
    model = mlp()
    load_structured(model, tensors)
    hidden = int(ticket_tensors(run, 1)["0.weight"].any(dim=1).sum())
    assert left is not None
    assert (hidden < 12, left.rows, header(out)["rows_removed"]) == (True, 12 - hidden, str(12 - hidden))
    assert [list(tensor.shape) for tensor in tensors.values()] == [[hidden, 6], [hidden], [3, hidden], [3]]
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16 if half else torch.float32}
    bound = 1e-2 if half else 1e-5
    torch.testing.assert_close(model(inputs()), ticket_of(run)(inputs()), rtol=bound, atol=bound)


def test_a_task_that_is_not_allowed_here_is_named(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(LotteryFLError, match=r"^task 'forms_task' is not .* here: name its file with --task"):
        export_ticket(run, 1, tmp_path / "small", form=Form(structured=True))
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_rows_to_take_out_is_refused(task: str, tmp_path: Path) -> None:
    experiment = tiny_experiment(rounds=1, task={"name": task}, strategy={"name": "fedavg"})
    with (
        simulated(tmp_path / "run", experiment, TinyTask()) as dense,
        pytest.raises(LotteryFLError, match=r"^--structured: no row or filter can be taken out"),
    ):
        export_global(dense, tmp_path / "small", form=Form(structured=True, tasks=[task]))


OTHERS = {
    "another model": (
        TASK.replace("12)", "13)").replace("12,", "13,"),
        r"task forms_task: its model is not the run's: .*size mismatch for 0\.weight",
    ),
    "widths of its own": (
        TASK
        + """
class Wide(nn.Sequential):
    def forward(self, inputs):
        return self[2](self[1](self[0](inputs)).view(-1, 12))

def model():
    return Wide(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
""",
        r"--structured: the model cannot be made smaller: shape '\[-1, 12\]' is invalid",
    ),
    "other data": (
        TASK.replace("inputs[part], labels", "inputs[part, :4], labels"),
        r"task forms_task: the model does not take a batch of client 1: RuntimeError: mat1 and mat2",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_does_not_go_together_is_one_line(run: RunDirectory, tmp_path: Path, name: str) -> None:
    code, message = OTHERS[name]
    (tmp_path / "forms_task.py").write_text(code)
    form = Form(structured=True, tasks=[str(tmp_path / "forms_task.py")])
    with pytest.raises(LotteryFLError, match=f"^{message}") as found:
        export_ticket(run, 1, tmp_path / "small", form=form)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("library", ["onnxruntime", "onnxscript"])
def test_onnx_without_its_libraries_names_the_extra(
    run: RunDirectory, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    for name in ("onnxruntime", "onnxscript"):  # whether they are there or not
        monkeypatch.setitem(sys.modules, name, None if name == library else ModuleType(name))
    with pytest.raises(LotteryFLError, match=rf"^--onnx needs {library}: pip install 'lotteryfl\[onnx\]'$"):
        export_ticket(run, 1, tmp_path / "a.onnx", form=Form(onnx=True, tasks=[task]))


@pytest.mark.parametrize(("name", "form"), [("a.onnx", Form()), ("a.safetensors", Form(onnx=True))])
def test_a_name_of_another_format_is_refused(run: RunDirectory, tmp_path: Path, name: str, form: Form) -> None:
    expected = ".onnx" if form.onnx else ".safetensors"
    with pytest.raises(LotteryFLError, match=rf"expected a name that ends in \{expected}, which is what is written$"):
        export_ticket(run, 1, tmp_path / name, form=form)


def evaluated(out: Path, given: dict[str, Tensor]) -> list[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(out)
    assert [each.name for each in session.get_inputs()] == list(given)
    return list(session.run(None, {name: tensor.numpy() for name, tensor in given.items()}))


@installed
@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_a_graph_does_the_same_for_any_number_of_examples(
    run: RunDirectory, task: str, tmp_path: Path, structured: bool, half: bool
) -> None:
    import onnx

    out, plain = tmp_path / "ticket.onnx", tmp_path / "ticket.safetensors"
    for path, as_onnx in ((out, True), (plain, False)):
        export_ticket(run, 1, path, form=Form(half, structured, as_onnx, [task]))
    given = inputs().half() if half else inputs()
    (found,) = evaluated(out, {"input": given})
    bound = 1e-2 if half else 1e-5
    np.testing.assert_allclose(found, ticket_of(run)(inputs()).detach().numpy(), rtol=bound, atol=bound)
    proto = onnx.load(out)
    assert {each.key: each.value for each in proto.metadata_props} == header(plain)
    assert str(Path(__file__).parents[3]).encode() not in out.read_bytes()
    values = sum(np.prod(each.dims, dtype=int) for each in proto.graph.initializer if each.data_type in (1, 10))
    assert values == sum(tensor.numel() for tensor in safetensors.torch.load_file(plain).values())


@installed
def test_a_graph_for_so_many_examples_alone_is_refused(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "forms_task.py"
    path.write_text(
        TASK
        + """
class Two(nn.Sequential):
    def forward(self, inputs):
        return super().forward(inputs + torch.zeros(2, 6))

def model():
    return Two(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
"""
    )
    with pytest.raises(
        LotteryFLError, match=r"^--onnx: the model or its graph does not take 3 examples: RuntimeError: The size"
    ):
        export_ticket(run, 1, tmp_path / "a.onnx", form=Form(onnx=True, tasks=[str(path)]))
    assert not (tmp_path / "a.onnx").exists()


def test_the_command_says_what_was_taken_out(run: RunDirectory, task: str, tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    arguments = [str(run.path), "--client=1", "--structured", f"--out={out}", f"--task={task}"]
    result = CliRunner().invoke(export, arguments)
    tensors, whole = safetensors.torch.load_file(out), ticket_tensors(run, 1)
    after, before = (sum(each.numel() for each in model.values()) for model in (tensors, whole))
    rows = len(whole["0.weight"]) - len(tensors["0.weight"])
    assert result.output == f"{out} written, {rows} rows fewer: {after} of {before} values\n"


BY_NAME = """
import lotteryfl
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(9, 6), nn.Linear(6, 1)

    def forward(self, tokens, mask=None):
        states = self.embedding(tokens) * mask[:, :, None]
        return {"score": self.head(states.mean(dim=1)).squeeze(1), "states": states}

model = Model

class objective(lotteryfl.objectives.Regression):
    def outputs(self, model, batch):
        return model(mask=batch["mask"], tokens=batch["tokens"])["score"]
    def loss(self, outputs, batch):
        return super().loss(outputs, (None, batch["y"]))
    def update(self, metrics, outputs, batch):
        super().update(metrics, outputs, (None, batch["y"]))

def client(k, experiment):
    tokens = torch.randint(9, (8, 5), generator=torch.Generator().manual_seed(k))
    part = {"tokens": tokens, "mask": (tokens > 2).float(), "y": tokens.float().mean(dim=1)}
    return [part, part, part]
"""


@pytest.mark.slow  # more than a few seconds beside libraries of images and texts
@installed
def test_a_graph_has_what_the_objective_gives_the_model(tmp_path: Path) -> None:
    declare()  # torchmetrics imports torchvision where it is
    path, out = tmp_path / "by_name.py", tmp_path / "model.onnx"
    path.write_text(BY_NAME)
    experiment = tiny_experiment(task={"name": str(path)})
    task = load_task(experiment, [str(path)])
    with set_up(tmp_path / "run", experiment, task) as run:
        export_global(run, out, form=Form(onnx=True, tasks=[str(path)]))
        model = task.model().eval()
        model.load_state_dict(ticket_tensors(run, 0))
    tokens = torch.randint(9, (7, 5))
    given = {"tokens": tokens, "mask": (tokens > 4).float()}
    expected = model(**given)
    found = evaluated(out, given)
    assert len(found) == 2
    for ours, theirs in zip(found, expected.values(), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
