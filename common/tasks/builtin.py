"""The built-in tasks: labelled examples, partitioned by the experiment's settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models import IMAGES, architectures, create_model
from lotteryfl.common.models.named import model_name
from lotteryfl.common.names import Digest
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.tasks.base import ClientData
from lotteryfl.common.tasks.namedmodel import named_model
from lotteryfl.common.tasks.partition import IntArray, Partition
from lotteryfl.common.tasks.partition.digest import partition_digest
from lotteryfl.common.tasks.rotation import rotate
from lotteryfl.common.tasks.sampling import draw_indices
from lotteryfl.common.text import quoted
from lotteryfl.common.training.score import Score
from lotteryfl.common.training.structure import Unbuilt


@dataclass(frozen=True)
class Examples:
    """Labelled examples as they are stored, images in a quarter of their size as inputs."""

    stored: Tensor
    """uint8 images (examples, channels, height, width), whose inputs are (pixel - mean) / std in float32; anything
    else is an input as it stands."""
    labels: Tensor
    """int64 (examples,)."""
    mean: float | Tensor = 0.0
    """Mean of the pixels, float or (channels, 1, 1)."""
    std: float | Tensor = 1.0
    """The same."""
    owners: IntArray | None = None
    """(examples,): who each is from, where the data says so."""

    def dataset(self, indices: IntArray, degrees: float = 0.0) -> Unbuilt:
        """Return the chosen examples, images turned counter-clockwise."""
        chosen = torch.from_numpy(indices)
        return Unbuilt(chosen, self.labels[chosen], partial(self._inputs, degrees))

    def _inputs(self, degrees: float, chosen: Tensor) -> Tensor:
        inputs = self.stored[chosen]
        if inputs.dtype != torch.uint8:
            return inputs
        pixels = inputs.float()
        return ((rotate(pixels, degrees) if degrees else pixels) - self.mean) / self.std


def parts_of(client: int, partition: Partition, train: Examples, test: Examples) -> ClientData:
    """Return what a client holds of training and test examples that were dealt out."""
    indices, degrees = partition.client(client), partition.angle(client)
    training = train.dataset(indices.train, degrees)
    validation = training if partition.validates_on_training else train.dataset(indices.validation, degrees)
    return ClientData(training, validation, test.dataset(indices.test, degrees))


Loader = Callable[[Experiment], tuple[Examples, Examples]]
"""Reads (training data, test data) for the experiment."""


class BuiltInTask:
    """A data set of labelled examples, dealt out to the experiment's clients.

    Args:
        name: of the task, also of its data set in `common.models`.
        experiment: architecture, partition, clients and seed.
        load: called when the data is first needed.
        allowed: the files and modules that this process's operator named; the model may be from one.

    Raises:
        TaskError: the architecture or the partition is not for this data.
    """

    def __init__(self, name: str, experiment: Experiment, load: Loader, allowed: Sequence[str] = ()) -> None:
        known, model = architectures(name), model_name(experiment.task.model)
        if model and not model.is_own and name not in IMAGES:
            raise TaskError(f"task.model = {quoted(str(model))}: takes images, and task {name} has none")
        self._build = named_model(experiment, allowed, IMAGES.get(name))
        if self._build is None and experiment.task.model not in known:
            raise TaskError(f"task.model = {experiment.task.model!r}: expected one of {', '.join(known)} for {name}")
        if experiment.partition.kind == "feature-skew" and name not in IMAGES:
            raise TaskError(f"partition.kind = 'feature-skew': turns images, and task {name} has none")
        if experiment.training.augment and name not in IMAGES:
            raise TaskError(
                f"training.augment = {list(experiment.training.augment)}: of images, and task {name} has none"
            )
        self.name = name
        self.score = Score()
        self.objective = None
        self._experiment = experiment
        self._load = load

    def model(self) -> nn.Module:
        """Build a freshly initialised model."""
        return self._build() if self._build else create_model(self.name, self._experiment.task.model)

    def client_data(self, client: int) -> ClientData:
        """Return one client's examples, whose inputs are made when they are asked for."""
        return parts_of(client, self._partition, *self._dealt)

    def global_test(self, examples: int) -> Unbuilt:
        """Return so many of all test examples, images upright; all, where there are fewer."""
        if self._partition.pooled:
            kind = self._experiment.partition.kind
            raise TaskError(f"partition.kind = {kind!r}: leaves no test examples that are nobody's own")
        _, test = self._examples
        seed = derive_seed(self._experiment.seed, "global test examples")
        return test.dataset(draw_indices(len(test.labels), examples, seed))

    def partition_sha256(self) -> Digest:
        """Return the digest of who holds what of the data; see `partition.digest`."""
        return partition_digest(self._partition, self._experiment.clients)

    @cached_property
    def _examples(self) -> tuple[Examples, Examples]:
        return self._load(self._experiment)

    @cached_property
    def _dealt(self) -> tuple[Examples, Examples]:
        """What the partition's indices are of."""
        train, test = self._examples
        if not self._partition.pooled:
            return train, test
        stored, labels = torch.cat([train.stored, test.stored]), torch.cat([train.labels, test.labels])
        both = replace(train, stored=stored, labels=labels)
        return both, both

    @cached_property
    def _partition(self) -> Partition:
        train, test = self._examples
        experiment = self._experiment
        owners = None if train.owners is None or test.owners is None else (train.owners, test.owners)
        if experiment.partition.kind == "natural" and owners is None:
            raise TaskError(f"partition.kind = 'natural': task {self.name} does not say who owns which example")
        return Partition(
            train.labels.numpy(),
            test.labels.numpy(),
            experiment.partition,
            experiment.clients,
            experiment.seed,
            owners,
        )
