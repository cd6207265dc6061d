"""Batches, model and objective that do not go together: one line, before any work."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from torchmetrics import Metric
from torchmetrics.regression import MeanAbsoluteError

from lotteryfl.client.work.objectiveprobe import ObjectiveProbe
from lotteryfl.common.errors import TaskError
from lotteryfl.common.pruning.parameters import digest, named_tensors
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.objectives import HuggingFace, LanguageModelling, Regression
from lotteryfl.common.training.structure import Rows
from tests.support.objectivetasks import PROBLEMS, ObjectiveTask, Tagger, mlp

GOOD = TensorDataset(torch.ones(3, 6), torch.ones(3))


class Endless(IterableDataset[Any]):
    steps_per_epoch = 2

    def __iter__(self) -> Any:
        while True:
            yield torch.ones(6), torch.ones(())


class Wrong(Regression):
    def metrics(self) -> dict[str, Metric]:
        return {"mae": MeanAbsoluteError()}

    def update(self, metrics: Any, outputs: Tensor, batch: Any) -> None:
        metrics["mea"].update(outputs, batch[1])


class Unreduced(Regression):
    def loss(self, outputs: Any, batch: Any) -> Tensor:
        return torch.zeros(2, 3)


class Detached(Regression):
    def outputs(self, model: nn.Module, batch: Any) -> Any:
        return super().outputs(model, batch).detach()


def look(objective: Objective, model: nn.Module, train: Dataset[Any], everybodys: Dataset[Any] | None = None) -> None:
    ObjectiveProbe("mine", model, objective).look(3, ClientData(train, train, train), everybodys)


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_goes_together_passes_and_leaves_nothing_behind(name: str) -> None:
    task = ObjectiveTask(name)
    model, state = task.model(), torch.get_rng_state()
    before = digest(named_tensors(model))
    ObjectiveProbe("tiny", model, task.objective or Regression()).look(1, task.client_data(1), None)
    assert digest(named_tensors(model)) == before
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_stream_is_looked_at_and_not_read_to_its_end() -> None:
    look(Regression(), mlp(1), Endless())


@pytest.mark.parametrize(
    ("objective", "model", "train", "message"),
    [
        (
            Regression(),
            mlp(2),
            GOOD,
            r"a batch of \(float32 \(2, 6\), float32 \(2,\)\): OutputError at .*the labels \(2,\)",
        ),
        (
            Regression(),
            mlp(1),
            TensorDataset(torch.ones(3, 5), torch.ones(3)),
            r"a batch of .*: RuntimeError at .*mat1",
        ),
        (Regression(), mlp(1), TensorDataset(torch.ones(3, 6), torch.full((3,), torch.nan)), r"the loss is nan$"),
        (Unreduced(), mlp(1), GOOD, r"OutputError at test_objectiveprobe\.py:\d+: Unreduced\.loss returned .*\(2, 3\)"),
        (Wrong(), mlp(1), GOOD, r"KeyError at test_objectiveprobe\.py:\d+: 'mea'$"),
        (Detached(), mlp(1), GOOD, r"RuntimeError at .*element 0 of tensors does not require grad"),
        (
            LanguageModelling(),
            Tagger(),
            TensorDataset(*[torch.full((3, 4), 11)] * 2),
            r"IndexError at .*index out of ran",
        ),
        (
            HuggingFace(),
            PROBLEMS["hugging face"].model(),
            Rows({"pixels": torch.ones(3, 6)}),
            r"a batch of \{pixels: float32 \(2, 6\)\}: TypeError at .*unexpected keyword argument 'pixels'",
        ),
    ],
)
def test_what_does_not_is_one_line_with_shapes_and_place(
    objective: Objective, model: nn.Module, train: Dataset[Any], message: str
) -> None:
    with pytest.raises(TaskError, match=rf"^client 3 of task mine: training data: .*{message}"):
        look(objective, model, train)


def test_global_test_data_are_looked_at_too() -> None:
    with pytest.raises(TaskError, match=r"^task mine: global test data: a batch of"):
        look(Regression(), mlp(1), GOOD, TensorDataset(torch.ones(3, 5), torch.ones(3)))
