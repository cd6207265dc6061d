"""The tasks "hf:NAME": a data set of Hugging Face's `datasets`, whose columns are mapped by `task.options`.

With `task.data_dir` it is that folder, as `save_to_disk` writes it or with files that `load_dataset` reads, and no
network is asked; without it, NAME is looked up on the hub.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.hubplace import PREFIX
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.randomness import generator
from lotteryfl.common.tasks.builtin import Examples, parts_of
from lotteryfl.common.tasks.folders.batches import as_taken, takes_pairs
from lotteryfl.common.tasks.folders.models import build_model
from lotteryfl.common.tasks.folders.options import Options, read_options
from lotteryfl.common.tasks.folders.tables import Labels, labels_of
from lotteryfl.common.tasks.partition import IntArray, Partition, stratified_split
from lotteryfl.common.tasks.partition.published import POOLED
from lotteryfl.common.tasks.pixels import pixels_of
from lotteryfl.common.tasks.words import hashed_words
from lotteryfl.common.text import quoted

_KNOWN = ("input", "label", "train", "test", "config", "length", "words")
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_TEST_SHARE = 0.2

_Columns = tuple[npt.NDArray[np.generic], Labels]


def options_of(experiment: Experiment) -> Options:
    """Return what `task.options` says of inputs and labels."""
    return read_options(experiment, _KNOWN)


def model(experiment: Experiment) -> nn.Module:
    """Build the experiment's model: what its inputs are like is said by `task.options`."""
    return build_model(experiment, options_of(experiment))


def client(k: int, experiment: Experiment) -> tuple[Any, Any, Any]:
    """Return training, validation and test data of one client, as the experiment's partition deals them.

    Raises:
        TaskError: the data set cannot be had, or its columns are not what the options say.
    """
    source, seed = _source_of(experiment), experiment.seed
    examples = _examples(source, seed)
    if experiment.partition.kind == "natural":
        raise TaskError("partition.kind = 'natural': this data does not say who owns which example")
    if experiment.partition.kind in POOLED:
        raise TaskError(f"partition.kind = {experiment.partition.kind!r}: expected a task that is built in")
    held = parts_of(k, _partition(source, seed, experiment.partition, experiment.clients), *examples)
    return tuple(_as_taken(part, source, experiment) for part in (held.train, held.validation, held.test))


def global_test(experiment: Experiment) -> Any:
    """Return all test examples."""
    source = _source_of(experiment)
    _, test = _examples(source, experiment.seed)
    return _as_taken(test.dataset(np.arange(len(test.labels))), source, experiment)


@dataclass(frozen=True)
class _Source:
    """What is read of which data set."""

    name: str
    data_dir: str
    config: str
    splits: tuple[str, str]
    inputs: tuple[str, ...]
    label: str
    kind: Options


def _source_of(experiment: Experiment) -> _Source:
    options = options_of(experiment)
    name = experiment.task.name.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise TaskError(f"task.name = {quoted(PREFIX + name)}: expected hf:NAME or hf:OWNER/NAME")
    return _Source(
        name,
        experiment.task.data_dir,
        options.text("config"),
        (options.text("train", "train"), options.text("test", "test")),
        tuple(column.strip() for column in options.text("input", "image").split(",")),
        options.text("label", "label"),
        options,
    )


@cache
def _examples(source: _Source, seed: int) -> tuple[Examples, Examples]:
    """Return training and test examples; once per process, which has one task."""
    train, test = _read(source)
    if test is None:
        inputs, labels = train
        first, second = stratified_split(_classes(labels), _TEST_SHARE, generator(seed, "hub-test"))
        train, test = (inputs[first], labels[first]), (inputs[second], labels[second])
    return _of_columns(train), _of_columns(test)


@cache
def _partition(source: _Source, seed: int, settings: PartitionSettings, clients: int) -> Partition:
    """Return who holds what; once, as it takes all examples into account."""
    train, test = _examples(source, seed)
    return Partition(_classes(train.labels.numpy()), _classes(test.labels.numpy()), settings, clients, seed)


def _classes(labels: npt.NDArray[np.generic]) -> IntArray:
    """Return labels that are classes, and one class of all that are not."""
    return labels.astype(np.int64) if labels.dtype.kind == "i" else np.zeros(len(labels), dtype=np.int64)


def _of_columns(columns: _Columns) -> Examples:
    inputs, labels = columns
    return Examples(torch.from_numpy(inputs), torch.from_numpy(labels), std=255.0)


def _read(source: _Source) -> tuple[_Columns, _Columns | None]:
    """Return inputs and labels of the training and, where there is one, of the test split."""
    try:
        import datasets
    except ImportError as error:
        raise TaskError(f"task {PREFIX}{source.name} needs datasets: pip install 'lotteryfl[datasets]'") from error
    folder = Path(source.data_dir).expanduser()
    is_saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if source.data_dir and is_saved:
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(str(folder) if source.data_dir else source.name, source.config or None)
    except Exception as error:  # of a library that has files, formats and a network below it
        raise TaskError(f"task {PREFIX}{source.name}: {type(error).__name__}: {first_line(error)}") from error
    splits = found if isinstance(found, dict) else {source.splits[0]: found}
    train, test = source.splits
    if train not in splits:
        raise TaskError(f"task {PREFIX}{source.name}: has no split {quoted(train)}, but {', '.join(splits)}")
    return _columns(splits[train], source), _columns(splits[test], source) if test in splits else None


def _columns(split: Any, source: _Source) -> _Columns:
    what = f"task {PREFIX}{source.name}"
    for column in (*source.inputs, source.label):
        if column not in split.column_names:
            raise TaskError(f"{what}: has no column {quoted(column)}, but {', '.join(split.column_names)}")
    if len(split) == 0:
        raise TaskError(f"{what}: a split has no examples")
    labels = labels_of(np.asarray(split[source.label][:]), what, source.kind)
    values = [split[column][:] for column in source.inputs]
    if source.kind.words:
        return hashed_words(_texts(values, what), source.kind.words, source.kind.shape[0]), labels
    if hasattr(values[0][0], "convert"):  # images, as Pillow has them
        if source.kind.images is None:
            raise TaskError(f"{what}: {source.inputs[0]} has images, expected task.options.size without features")
        channels, size, _ = source.kind.images
        return np.stack([pixels_of(image, channels, size) for image in values[0]]), labels
    try:
        columns = [np.asarray(column, dtype=np.float32).reshape(len(labels), -1) for column in values]
    except (TypeError, ValueError) as error:
        raise TaskError(
            f"{what}: {', '.join(source.inputs)}: {error}; texts need a task of your own, or task.options.length"
        ) from error
    inputs = np.concatenate(columns, axis=1)
    if inputs.shape[1] != math.prod(source.kind.shape) or not np.isfinite(inputs).all():
        raise TaskError(
            f"{what}: {', '.join(source.inputs)} have {inputs.shape[1]} numbers an example, expected "
            f"{math.prod(source.kind.shape)} finite ones"
        )
    return inputs.reshape(-1, *source.kind.shape), labels


def _texts(columns: list[list[Any]], what: str) -> Iterator[str]:
    """Yield each example's columns, one after the other, as one text."""
    for row in zip(*columns, strict=True):
        for value in row:
            if not isinstance(value, str):
                raise TaskError(f"{what}: holds {quoted(value)}, expected a text, as task.options.length says")
        yield " ".join(row)


def _as_taken(part: Any, source: _Source, experiment: Experiment) -> Any:
    if takes_pairs(experiment):
        return part
    inputs, labels = part.tensors
    return as_taken(inputs, labels, source.kind, experiment)
