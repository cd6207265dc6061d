"""The user's own task: a Python file or module with `model()` and `client(k, experiment)`, and maybe `global_test` and
`augment`."""

from collections.abc import Iterable, Sequence, Sized
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from lotteryfl.common.arrays import to_tensor
from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.randomness import derive_seed, model_seed
from lotteryfl.common.seeding import seeded
from lotteryfl.common.tasks.base import ClientData, task_id
from lotteryfl.common.tasks.sampling import draw_examples
from lotteryfl.common.training.augmentation import OwnAugment
from lotteryfl.common.usercode import absolute, import_source, located

_FUNCTIONS = {"model": "model()", "client": "client(k, experiment)"}
_GLOBAL = "global_test(experiment)"
_PARTS = {"train": "training", "validation": "validation", "test": "test"}


def load_custom(experiment: Experiment, allowed: Sequence[str], built_in: Iterable[str]) -> "CustomTask":
    """Import the one of the `allowed` files and modules that the experiment means.

    Raises:
        TaskError: none or more than one has this name, or it is not a task.
    """
    name = task_id(experiment.task.name)
    sources = {absolute(source) for source in allowed if task_id(source) == name}
    if not sources:
        raise TaskError(
            f"task {name!r} is not installed here: name its file with --task; built-in tasks are {', '.join(built_in)}"
        )
    if len(sources) > 1:
        raise TaskError(f"task {name!r} is ambiguous: {' and '.join(sorted(sources))} have this name")
    (source,) = sources
    with seeded(derive_seed(experiment.seed, "task")):
        module = import_source(f"task {name}", source, TaskError)
    return CustomTask(name, module, experiment)


class CustomTask:
    """A task out of a module that the user wrote; what its functions return is checked.

    `model()` returns a `torch.nn.Module`. `client(k, experiment)` returns `ClientData` or its three parts,
    each a map-style `torch.utils.data.Dataset` or a pair (inputs, labels) of tensors or numpy arrays with one
    row per example; labels are integers, floating-point numpy inputs are given torch's default dtype. So does
    `global_test(experiment)`, once, which only experiments with `evaluation.global_examples` need.

    `augment(batch, generator)`, where there is one, gets every training batch on its device, as the data's (inputs,
    labels), and returns one; what it draws from the generator is a matter of round and client alone.

    Each of them, and the import itself, finds the global generators of `random`, NumPy and torch seeded from the run's
    seed and what is asked for: the same on every machine and every time.

    Raises:
        TaskError: the module lacks one of the functions.
    """

    def __init__(self, name: str, module: ModuleType, experiment: Experiment) -> None:
        self.name = name
        self._module = module
        self._file = str(module.__file__)
        self._experiment = experiment
        for function, signature in _FUNCTIONS.items():
            if not callable(getattr(module, function, None)):
                raise TaskError(f"task {name}: {self._file} has no function {signature}")
        wanted = experiment.evaluation.global_examples
        if wanted and not callable(getattr(module, "global_test", None)):
            raise TaskError(
                f"task {name}: {self._file} has no function {_GLOBAL}, "
                f"which evaluation.global_examples = {wanted} needs"
            )

        self.augment: OwnAugment | None = None
        if hasattr(module, "augment"):
            self.augment = self._checked_augment(module.augment)

    def _checked_augment(self, augment: Any) -> OwnAugment:
        if not callable(augment):
            raise TaskError(f"task {self.name}: augment in {self._file} is {_kind(augment)}, expected a function")
        if self._experiment.privacy.dp_sgd:
            raise TaskError(
                f"task {self.name}: augment() in {self._file} may put one example into another, and privacy.dp_sgd "
                "bounds what each counts for: expected no such function"
            )
        return partial(_augmented, augment, f"task {self.name}: augment()", self._file)

    def model(self) -> nn.Module:
        """Build a freshly initialised model.

        Raises:
            TaskError: the user's function fails, or returns something else.
        """
        seed = model_seed(self._experiment.seed)
        with seeded(seed), located(f"task {self.name}: model() failed", self._file, TaskError):
            model = self._module.model()
        if not isinstance(model, nn.Module):
            raise TaskError(
                f"task {self.name}: model() in {self._file} returned {_kind(model)}, expected a torch.nn.Module"
            )
        return model

    def client_data(self, client: int) -> ClientData:
        """Return one client's examples.

        Raises:
            ValueError: the experiment has no such client.
            TaskError: the user's function fails, or returns something else, or an empty part.
        """
        if not 0 <= client < self._experiment.clients:
            raise ValueError(f"client = {client}: expected 0 to {self._experiment.clients - 1}")
        who = f"client {client} of task {self.name}"
        seed = derive_seed(self._experiment.seed, "client data", client)
        with seeded(seed), located(f"{who}: client() failed", self._file, TaskError):
            parts = self._module.client(client, self._experiment)
        if isinstance(parts, ClientData):
            parts = (parts.train, parts.validation, parts.test)
        if not isinstance(parts, tuple | list) or len(parts) != len(_PARTS):
            raise TaskError(
                f"{who}: client() in {self._file} returned {_kind(parts)}, "
                "expected ClientData or (train, validation, test)"
            )
        data = [
            _dataset(part, f"{who}: {name} from client() in {self._file}")
            for name, part in zip(_PARTS, parts, strict=True)
        ]
        for part, adjective in zip(data, _PARTS.values(), strict=True):
            if len(part) == 0:  # type: ignore[arg-type] # _dataset has checked that it is sized
                raise TaskError(f"{who}: no {adjective} examples")
        return ClientData(*data)

    def global_test(self, examples: int) -> Dataset[Any]:
        """Return so many of the examples of the user's `global_test`; all, where there are fewer.

        Raises:
            TaskError: the user's function fails, or returns something else, or nothing.
        """
        seed = derive_seed(self._experiment.seed, "global test data")
        with seeded(seed), located(f"task {self.name}: global_test() failed", self._file, TaskError):
            data = self._module.global_test(self._experiment)
        whole = _dataset(data, f"task {self.name}: what global_test() in {self._file} returned")
        if len(whole) == 0:  # type: ignore[arg-type] # _dataset has checked that it is sized
            raise TaskError(f"task {self.name}: no global test examples")
        return draw_examples(whole, examples, derive_seed(self._experiment.seed, "global test examples"))


def _augmented(augment: OwnAugment, what: str, file: str, batch: Any, random: torch.Generator) -> Any:
    with located(f"{what} failed", file, TaskError):
        augmented = augment(batch, random)
    if _kind(augmented) != _kind(batch):
        raise TaskError(f"{what} in {file} returned {_kind(augmented)}, expected a batch as it got: {_kind(batch)}")
    return augmented


def _dataset(value: Any, what: str) -> Dataset[Any]:
    if isinstance(value, Dataset) and isinstance(value, Sized) and not isinstance(value, IterableDataset):
        return value
    match value:
        case (Tensor() | np.ndarray() as inputs, Tensor() | np.ndarray() as labels):
            return _pair(inputs, labels, what)
    raise TaskError(f"{what} is {_kind(value)}, expected a map-style Dataset or a pair (inputs, labels)")


def _pair(inputs: Any, labels: Any, what: str) -> TensorDataset:
    try:
        inputs, labels = to_tensor(inputs), to_tensor(labels)
    except (TypeError, ValueError) as error:
        raise TaskError(f"{what}: {error}") from error
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        raise TaskError(
            f"{what}: labels are {labels.dtype} of shape {tuple(labels.shape)}, expected integers of shape (examples,)"
        )
    if inputs.dim() == 0 or len(inputs) != len(labels):
        raise TaskError(f"{what}: inputs have shape {tuple(inputs.shape)}, labels {tuple(labels.shape)}")
    return TensorDataset(inputs, labels.long())


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{name} of {len(value)}" if isinstance(value, tuple | list) else name
