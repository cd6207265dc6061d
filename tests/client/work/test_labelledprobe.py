"""What is wrong with a client's data is found before any work, and said with what was expected."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.common.errors import ClientError
from lotteryfl.common.memory.bounds import Bound
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.tasks import ClientData
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.client.work.test_assignment import TRAIN, Client
from tests.support.bench import CPU, TinyTask, tiny_experiment, tiny_mlp


class Listed(Dataset[Any]):
    """Examples one by one, as people's own data sets give them."""

    def __init__(self, examples: list[Any]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        return self.examples[index]


class Odd(TinyTask):
    """One part of a client's data is another one."""

    def __init__(self, part: str, data: Dataset[Any], build: Callable[[], nn.Module] = tiny_mlp) -> None:
        super().__init__(build)
        self.part, self.data = part, data

    def client_data(self, client: int) -> ClientData:
        parts = {"train": super().client_data(client).train, **vars(super().client_data(client)), self.part: self.data}
        return ClientData(**parts)


INPUTS = torch.randn(20, 6)
LABELS = torch.tensor([0, 1, 2, 1] * 5)
LATE = torch.cat([LABELS[:-1], torch.tensor([3])])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TensorDataset(INPUTS, LATE), "label 3: expected 0 to 2, as the model has 3 outputs"),
        (TensorDataset(INPUTS, LABELS - 1), "label -1: expected 0 to 2, as the model has 3 outputs"),
        (Listed([(INPUTS[0], 7)] * 4), "label 7: expected 0 to 2, as the model has 3 outputs"),
        (
            TensorDataset(INPUTS, LABELS.float()),
            r"labels of shape \(20,\) and torch.float32: expected classes, torch.int64 of shape \(examples,\)",
        ),
        (TensorDataset(INPUTS, LABELS[:, None]), r"labels of shape \(20, 1\) and torch.int64: expected classes"),
        (TensorDataset(INPUTS), r"a batch is a tuple of 1: expected a pair \(inputs, labels\) of tensors"),
        (Listed([(INPUTS[0], 1, 2)] * 4), r"a batch is a list of 3: expected a pair \(inputs, labels\) of tensors"),
        (Listed([{"x": INPUTS[0], "y": 1}] * 4), r"a batch is a dict: expected a pair \(inputs, labels\) of tensors"),
        (Listed([("a text", 1)] * 4), r"a batch is a list of 2: expected a pair \(inputs, labels\) of tensors"),
        (
            TensorDataset(INPUTS[:, :5], LABELS),
            r"the model does not take inputs of shape \(8, 5\) and torch.float32: RuntimeError: mat1 and mat2",
        ),
        (TensorDataset(INPUTS.double(), LABELS), "the model does not take inputs of .* torch.float64: RuntimeError"),
    ],
)
@pytest.mark.parametrize(("part", "called"), [("train", "training"), ("validation", "validation"), ("test", "test")])
def test_a_batch_that_cannot_be_worked_with_is_named(data: Dataset[Any], message: str, part: str, called: str) -> None:
    client, steps = Client(Odd(part, data)), []
    with pytest.raises(ClientError, match=f"^client 0 of task tiny: {called} data: {message}") as raised:
        client.run(pb.Plan(train=TRAIN), on_step=lambda *step: steps.append(step))
    assert not steps
    assert "\n" not in str(raised.value)
    assert raised.value.told.startswith("client 0 of task tiny: ")
    assert "label 3" not in raised.value.told


class Fuses(nn.Module):
    """Joins the examples of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.linear(inputs).mean(0, keepdim=True)
        return output


def test_a_model_that_answers_for_no_single_example_is_named() -> None:
    with pytest.raises(ClientError, match=r"output has shape \(1, 3\) .*: expected a row for each of 8 examples"):
        Client(TinyTask(Fuses)).run(pb.Plan(train=TRAIN))


class Counted(nn.Module):
    """Keeps how often it was asked, and draws unasked."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.asked = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked += 1
        output: Tensor = self.linear(inputs) + self.asked + torch.rand(())
        return output


class Noisy(Listed):
    """Draws for every example that is read."""

    def __getitem__(self, index: int) -> Any:
        inputs, label = self.examples[index]
        return inputs + torch.rand(()), label


def test_looking_changes_nothing() -> None:
    """The first look at data of a kind asks the model; later ones remember."""
    data = Noisy(list(zip(INPUTS, LABELS, strict=True)))
    client = Client(Odd("train", data, Counted))
    first, again = (client.returned(client.run(pb.Plan(train=TRAIN))) for _ in range(2))
    assert digest(first) == digest(again)


class InPlace(nn.Module):
    """Works on its inputs in their own memory."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.linear(inputs.sub_(1))
        return output


def test_looking_does_not_write_into_the_clients_examples() -> None:
    data = TensorDataset(INPUTS.clone(), LABELS)
    Client(Odd("train", data, InPlace)).run(pb.Plan(train=TRAIN))
    assert torch.equal(data.tensors[0], INPUTS)


def test_work_whose_batches_are_too_much_for_the_worker_is_handed_back() -> None:
    client = Client()
    runner = AssignmentRunner(
        TinyTask(), tiny_experiment(), client.table, client.initial, CPU, Bound(6_000, "--max-memory")
    )
    assignment = pb.Assignment(assignment_id="r1-c0-a1", round=1, plan=pb.Plan(train=TRAIN))
    with pytest.raises(ClientError, match=r"the work takes .* this worker takes on 6.0 kB \(--max-memory\): .*batch "):
        runner.run(assignment, client.wire.pack(client.model, {}), {})
