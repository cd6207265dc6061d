"""What cannot be stacked is refused by name before anybody trains."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.models.resnet import BasicBlock
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.recipe import TrainingSettings
from lotteryfl.common.training.stacked.check import Trial, check_stackable

DATA = TensorDataset(torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 0]))


class Linear(nn.Module):
    """Goes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.seen = nn.Buffer(torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(inputs)
        return logits


class DropsUnasked(Linear):
    """Draws from no layer's generator."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits."""
        return super().forward(F.dropout(inputs))


class Decides(Linear):
    """Looks at values."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits."""
        return super().forward(inputs if inputs.sum() > 0 else -inputs)


class Counts(Linear):
    """Changes a buffer."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits."""
        self.seen.add_(len(inputs))
        return super().forward(inputs)


class Listed(Dataset[tuple[Tensor, Tensor]]):
    """Read one by one."""

    def __len__(self) -> int:
        return len(DATA)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, labels = DATA.tensors
        return inputs[index], labels[index]


def tried(model: nn.Module, data: Dataset[Any] = DATA) -> None:
    device = torch.device("cpu")
    Trial(model, data, TrainingSettings(), device).stacked()


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        (DropsUnasked(), "DropsUnasked cannot be trained as many models at once: RuntimeError: vmap: called random"),
        (Decides(), "Decides cannot be trained as many models at once: RuntimeError: vmap: It looks like"),
        (Counts(), "Counts changes 'seen' while it is trained"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_model_that_does_not_go_is_named(model: nn.Module, refused: str) -> None:
    with pytest.raises(ExperimentError, match=rf"engine\.stacked: {refused}"):
        tried(model)


def test_a_model_that_goes_stays_as_it_is() -> None:
    model = Linear()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tried(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.head(DATA.tensors[0]).shape == (5, 3)


def test_data_that_are_read_one_by_one_are_refused() -> None:
    with pytest.raises(ExperimentError, match=r"engine\.stacked: takes data that are tensors in memory"):
        tried(Linear(), Listed())


def mixed(batch: Any, _generator: torch.Generator) -> Any:
    """Mix each example with the next, of which there has to be one."""
    inputs, labels = batch
    if len(inputs) < 2:
        raise ValueError("nothing to mix with")
    return (inputs + inputs.roll(1, 0)) / 2, labels


def test_an_augmentation_that_takes_no_batch_of_one_says_nothing_against_stacking() -> None:
    trial = Trial(Linear(), DATA, TrainingSettings(), torch.device("cpu"), augment=mixed)
    trial.alone()
    trial.stacked()


def test_batch_norm_is_refused_by_its_name() -> None:
    with pytest.raises(ExperimentError, match=r"the model's 'branch.1' is a BatchNorm2d, which measures whole batches"):
        check_stackable(BasicBlock(8, 8, 1, nn.BatchNorm2d), None)


def test_a_loss_that_is_no_mean_over_examples_is_refused() -> None:
    with pytest.raises(ExperimentError, match="needs a loss that is a mean over examples, and Objective does not"):
        check_stackable(Linear(), Objective())
