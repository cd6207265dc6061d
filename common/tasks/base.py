"""What a task is."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn
from torch.utils.data import Dataset

from lotteryfl.common.training.augmentation import OwnAugment
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.score import Score


@dataclass(frozen=True)
class ClientData:
    """One client's examples: non-empty data sets, without an objective of (input tensor, class as an integer)."""

    train: Dataset[Any]
    validation: Dataset[Any]
    test: Dataset[Any]


class Task(Protocol):
    """What is learned, and from what."""

    @property
    def name(self) -> str:
        """The name that travels: see `task_id`."""

    @property
    def score(self) -> Score:
        """What its runs are judged by; accuracy, where it is classification."""

    @property
    def objective(self) -> Objective | None:
        """What its models learn and are measured by; None: classification."""

    def model(self) -> nn.Module:
        """Build a freshly initialised model, from torch's global generator."""

    def client_data(self, client: int) -> ClientData:
        """Return the examples of one client; the same for the same experiment, always.

        Raises:
            ValueError: the experiment has no such client.
            TaskError: the data cannot be had, or a part of the client's is empty.
        """

    def global_test(self, examples: int) -> Dataset[Any]:
        """Return so many of the task's global test examples, drawn from the run's seed; all, where there are fewer.

        Raises:
            TaskError: the task has none, or they cannot be had.
        """


def augment_of(task: Task) -> OwnAugment | None:
    """Return what a task does to training batches, beside what the experiment says: its `augment`, if it has one."""
    return getattr(task, "augment", None)


def frozen_of(task: Task) -> tuple[str, ...]:
    """Return the patterns of a task's buffers that never change: its `frozen`, if it has some."""
    found: tuple[str, ...] = getattr(task, "frozen", ())
    return found
