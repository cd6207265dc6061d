"""Who holds what: how many examples of each class every client has, in numbers, and how skewed that is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tabulate import tabulate
from torch import Tensor
from torch.utils.data import Dataset

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.hubplace import PREFIX as HUB
from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.owncode.usercode import belonging_to
from lotteryfl.common.tasks import BUILT_IN, Task
from lotteryfl.common.tasks.partition import IntArray
from lotteryfl.common.tasks.partition.published import PUBLISHED
from lotteryfl.common.training.structure import Unbuilt, is_tensors
from lotteryfl.server.results.skew import label_skew

UNLABELLED = "labels cannot be told: not every example is a pair whose label is an integer from 0 on"
_UNKNOWN = -1


@dataclass(frozen=True)
class Holdings:
    """What the clients of an experiment hold."""

    counts: IntArray
    """(clients, classes): training and validation examples; no classes, where labels cannot be told."""
    sizes: IntArray
    """(clients, 3): training, validation and test examples."""

    @property
    def labelled(self) -> bool:
        """Whether each example is a pair whose label is an integer from 0 on."""
        return bool(self.counts.shape[1])

    @property
    def skew(self) -> float:
        """See `label_skew`."""
        return label_skew(self.counts)


def holdings(task: Task, clients: int) -> Holdings:
    """Count the examples of every client of a task.

    Raises:
        TaskError: the task cannot give a client's data.
    """
    held, sizes = [], []
    for client in range(clients):
        with belonging_to(client, task.name):
            data = task.client_data(client)
            train, validation, test = map(_labels_of, (data.train, data.validation, data.test))
        if data.validation is data.train:  # nothing is put aside for it
            validation = validation[:0]
        held.append(np.concatenate([train, validation]))
        sizes.append((len(train), len(validation), len(test)))
    if min(int(labels.min()) for labels in held) < 0:
        return Holdings(np.zeros((clients, 0), dtype=np.int64), np.array(sizes))
    classes = 1 + max(int(labels.max()) for labels in held)
    return Holdings(np.stack([np.bincount(labels, minlength=classes) for labels in held]), np.array(sizes))


def describe(experiment: Experiment, held: Holdings) -> str:
    """Return the table of `lotteryfl data`: examples and classes of a client, and the skew."""
    examples = [
        (f"{name} examples", held.sizes[:, part]) for part, name in enumerate(("training", "validation", "test"))
    ]
    rows = [*examples, *([("classes", (held.counts > 0).sum(axis=1))] if held.labelled else [])]
    table = tabulate(
        [(name, column.min(), f"{column.mean():.1f}", column.max()) for name, column in rows],
        headers=("of a client", "min", "mean", "max"),
        colalign=("left", "right", "right", "right"),
        disable_numparse=True,
    )
    return f"{heading(experiment)}\n\n{table}\n\n{_skew(experiment, held) if held.labelled else UNLABELLED}"


def heading(experiment: Experiment) -> str:
    """Return one line: the task, the partition with what it depends on, and the clients.

    Of a task of the user's own the partition is left out where it is the default one: most deal by themselves.
    """
    name, partition = task_id(experiment.task.name), experiment.partition
    told = f"{experiment.clients} clients, seed {experiment.seed}"
    if name not in BUILT_IN and not name.startswith(HUB) and partition == PartitionSettings():
        return f"{name}: {told}"
    detail = {
        "n-class": f", {partition.classes_per_client} classes each",
        **dict.fromkeys(("dirichlet", "class-dirichlet", "quantity-skew", *PUBLISHED), f", α = {partition.alpha:g}"),
        "shards": f", {partition.shards_per_client} shards each",
        "as-lotteryfl": f", {partition.classes_per_client} shards each",
        "feature-skew": f", {partition.rotations} rotations",
    }.get(partition.kind, "")
    return f"{name}, {partition.kind}{detail}: {told}"


def _skew(experiment: Experiment, held: Holdings) -> str:
    """Return the skew index, and the angles where these are what is skewed."""
    everybody = held.counts.sum(axis=0) / held.counts.sum()
    text = f"label skew {held.skew:.3f} (0: all mixes equal; {1 - (everybody**2).sum():.3f}: one class each)"
    rotations = experiment.partition.rotations
    if experiment.partition.kind == "feature-skew":
        angles = [f"{step * 360 / rotations:g}°" for step in range(min(rotations, experiment.clients))]
        text += f"\nimages turned by {', '.join(angles)}"
    return text


def _labels_of(data: Dataset[Any]) -> npt.NDArray[np.int64]:
    if is_tensors(data):
        labels = data.labels if isinstance(data, Unbuilt) else data.tensors[1]
        if labels.dim() == 1 and labels.dtype == torch.int64:
            return labels.cpu().numpy()
    return np.array([_label(data[index]) for index in range(len(data))])  # type: ignore[arg-type]


def _label(example: Any) -> int:
    """Return the class of an example; `_UNKNOWN`, where it is no sequence of inputs and one integer."""
    if not isinstance(example, tuple | list) or len(example) < 2:
        return _UNKNOWN
    label = np.asarray(example[1].cpu() if isinstance(example[1], Tensor) else example[1])
    return int(label.item()) if label.size == 1 and label.dtype.kind in "biu" else _UNKNOWN
