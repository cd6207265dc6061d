"""The built-in tasks: labelled images, partitioned by the experiment's settings."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from common.errors import TaskError
from common.experiment import Experiment
from common.models import ARCHITECTURES, create_model
from common.partition import IntArray, Partition
from common.tasks.base import ClientData


@dataclass(frozen=True)
class LabelledImages:
    """Images as they are stored, in a quarter of their size as inputs.

    `images` are uint8 (examples, channels, height, width), `labels` int64 (examples,). An input is
    (image - mean) / std in float32.
    """

    images: Tensor
    labels: Tensor
    mean: float
    std: float

    def take(self, indices: IntArray) -> "LabelledImages":
        """Return the chosen examples, copied."""
        chosen = torch.from_numpy(indices)
        return LabelledImages(self.images[chosen], self.labels[chosen], self.mean, self.std)

    def dataset(self) -> TensorDataset:
        """Return the normalised examples."""
        return TensorDataset((self.images.float() - self.mean) / self.std, self.labels)


class ImageTask:
    """A data set of labelled images, dealt out to the experiment's clients.

    Args:
        name: of the task, also of its data set in `common.models`.
        experiment: architecture, partition, clients and seed.
        load: reads (training images, test images) for the experiment, when they are first needed.

    Raises:
        TaskError: the architecture is unknown.
    """

    def __init__(
        self,
        name: str,
        experiment: Experiment,
        load: Callable[[Experiment], tuple[LabelledImages, LabelledImages]],
    ) -> None:
        if experiment.task.model not in ARCHITECTURES:
            raise TaskError(f"task.model = {experiment.task.model!r}: expected one of {', '.join(ARCHITECTURES)}")
        self.name = name
        self._experiment = experiment
        self._load = load

    def model(self) -> nn.Module:
        """Build a freshly initialised model."""
        return create_model(self.name, self._experiment.task.model)

    def client_data(self, client: int) -> ClientData:
        """Return one client's examples as normalised float32 tensors in memory."""
        indices = self._partition.client(client)
        train, test = self._images
        return ClientData(
            train.take(indices.train).dataset(),
            train.take(indices.validation).dataset(),
            test.take(indices.test).dataset(),
        )

    @cached_property
    def _images(self) -> tuple[LabelledImages, LabelledImages]:
        return self._load(self._experiment)

    @cached_property
    def _partition(self) -> Partition:
        train, test = self._images
        experiment = self._experiment
        return Partition(
            train.labels.numpy(),
            test.labels.numpy(),
            experiment.partition,
            experiment.clients,
            experiment.seed,
        )
