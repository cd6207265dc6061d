"""The user's own task: a file or module with `model` and `client`, and maybe more; see `CustomTask`."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.owncode.sourceversion import SourceVersion
from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.owncode.usercode import import_source, located, version_of
from lotteryfl.common.randomness import derive_seed, model_seed
from lotteryfl.common.seeding import seeded
from lotteryfl.common.tasks.base import ClientData, Task
from lotteryfl.common.tasks.namedmodel import called, find_allowed, named_model
from lotteryfl.common.tasks.parts import is_empty, is_in_memory, part_of
from lotteryfl.common.tasks.sampling import draw_examples
from lotteryfl.common.text import kind
from lotteryfl.common.training.augmentation import OwnAugment
from lotteryfl.common.training.given import is_stream
from lotteryfl.common.training.loaded import Collate, Loaded
from lotteryfl.common.training.objective import Objective, require_mean, score_of

_FUNCTIONS = {"model": "model()", "client": "client(k, experiment)"}
_GLOBAL = "global_test(experiment)"
_PARTS = {"train": "training", "validation": "validation", "test": "test"}


def load_custom(experiment: Experiment, allowed: Sequence[str], built_in: Iterable[str]) -> "CustomTask":
    """Import the one of the `allowed` files and modules that the experiment means.

    Raises:
        TaskError: none or more than one has this name, or it is not a task.
    """
    name = task_id(experiment.task.name)
    source = find_allowed(f"task {name!r}", name, allowed, f"built-in tasks are {', '.join(built_in)}")
    code = _Code(name, source, derive_seed(experiment.seed, "task"))
    module, build = code.load(), named_model(experiment, allowed)
    if build is not None and hasattr(module, "model"):
        raise TaskError(f"task.model = {experiment.task.model!r}: expected none beside model() in {module.__file__}")
    return CustomTask(name, module, experiment, code, build)


@dataclass(frozen=True)
class _Code:
    """Where a task's code is; unpickled in another process, it has imported it there."""

    name: str
    source: str
    seed: int

    def load(self) -> ModuleType:
        """Import it."""
        with seeded(self.seed):
            return import_source(f"task {self.name}", self.source, TaskError)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.load()


def version_of_task(task: Task) -> SourceVersion:
    """Return the version of a task; a built-in one has none but the program's."""
    return task.version if isinstance(task, CustomTask) else SourceVersion()


class CustomTask:
    """A task out of a module that the user wrote; what its functions return is checked.

    `model()` or `model(experiment)` returns a `torch.nn.Module`; a module without it takes the one that `task.model`
    names. `client(k, experiment)` returns `ClientData` or its
    three parts, each a data set, or a pair (inputs, labels) of tensors or numpy arrays with one row per example; labels
    are integers, floating-point numpy inputs are given torch's default dtype. So does `global_test(experiment)`, once,
    which only experiments with `evaluation.global_examples` or `global_every` need. `objective` is an `Objective`, or a
    function or class that makes one, of nothing or of the experiment; with one, data may be of any structure (see
    `common.tasks.parts.part_of`). `collate(examples)` makes a batch of a list of examples.

    `frozen`, where there is one, are patterns of the names of buffers that never change, as parameters that do not
    require a gradient.

    `augment(batch, generator)`, where there is one, gets every training batch on its device, as the data's (inputs,
    labels), and returns one; what it draws from the generator is a matter of round and client alone.

    Each of them, and the import itself, finds the global generators of `random`, NumPy and torch seeded from the run's
    seed and what is asked for: the same on every machine and every time.

    Raises:
        TaskError: the module lacks one of the functions.
    """

    def __init__(
        self,
        name: str,
        module: ModuleType,
        experiment: Experiment,
        code: object = None,
        build: Callable[[], nn.Module] | None = None,
    ) -> None:
        self.name = name
        self._module = module
        self._file = str(module.__file__)
        self._experiment = experiment
        self._code = code
        self._build = build
        for function, form in _FUNCTIONS.items():
            if not callable(getattr(module, function, None)) and not (build is not None and function == "model"):
                raise TaskError(f"task {name}: {self._file} has no function {form}")
        evaluation = experiment.evaluation
        for key in ("global_examples", "global_every"):
            if (wanted := getattr(evaluation, key)) and not callable(getattr(module, "global_test", None)):
                raise TaskError(
                    f"task {name}: {self._file} has no function {_GLOBAL}, which evaluation.{key} = {wanted} needs"
                )
        self._collate: Collate | None = getattr(module, "collate", None)
        if self._collate is not None and not callable(self._collate):
            raise TaskError(f"task {name}: collate in {self._file} is {kind(self._collate)}, expected a function")
        with seeded(derive_seed(experiment.seed, "objective")), self._located("objective"):
            self.objective = self._make_objective()
            self.score = score_of(self.objective)
            if self.objective is not None and experiment.privacy.dp_sgd:
                require_mean(self.objective, "privacy.dp_sgd")

        self.frozen = self._checked_frozen(getattr(module, "frozen", ()))
        self.augment: OwnAugment | None = None
        if hasattr(module, "augment"):
            self.augment = self._checked_augment(module.augment)

    def _checked_frozen(self, frozen: Any) -> tuple[str, ...]:
        patterns = (frozen,) if isinstance(frozen, str) else frozen
        if not isinstance(patterns, tuple | list) or not all(isinstance(pattern, str) for pattern in patterns):
            raise TaskError(
                f"task {self.name}: frozen in {self._file} is {kind(frozen)}, expected patterns of buffers' names, as "
                "('backbone.*.running_*',)"
            )
        return tuple(patterns)

    def _checked_augment(self, augment: Any) -> OwnAugment:
        if not callable(augment):
            raise TaskError(f"task {self.name}: augment in {self._file} is {kind(augment)}, expected a function")
        if self._experiment.privacy.dp_sgd:
            raise TaskError(
                f"task {self.name}: augment() in {self._file} may put one example into another, and privacy.dp_sgd "
                "bounds what each counts for: expected no such function"
            )
        return partial(_augmented, augment, f"task {self.name}: augment()", self._file)

    @property
    def version(self) -> SourceVersion:
        """The digests of the files that it is made of; see `version_of`."""
        return version_of(self._module)

    def model(self) -> nn.Module:
        """Build a freshly initialised model.

        Raises:
            TaskError: the user's function fails, or returns something else.
        """
        if self._build is not None:
            return self._build()
        with seeded(model_seed(self._experiment.seed)), self._located("model()"):
            model = called(self._module.model, self._experiment)
        if not isinstance(model, nn.Module):
            raise TaskError(
                f"task {self.name}: model() in {self._file} returned {kind(model)}, expected a torch.nn.Module"
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
                f"{who}: client() in {self._file} returned {kind(parts)}, "
                "expected ClientData or (train, validation, test)"
            )
        data = [
            self._read(part, f"{who}: {name} from client() in {self._file}")
            for name, part in zip(_PARTS, parts, strict=True)
        ]
        for part, adjective in zip(data, _PARTS.values(), strict=True):
            if is_empty(part):
                raise TaskError(f"{who}: no {adjective} examples")
        return ClientData(*data)

    def global_test(self, examples: int) -> Dataset[Any]:
        """Return so many of the examples of the user's `global_test`; all, where there are fewer.

        Raises:
            TaskError: the user's function fails, or returns something else, or nothing.
        """
        seed = derive_seed(self._experiment.seed, "global test data")
        with seeded(seed), self._located("global_test()"):
            data = self._module.global_test(self._experiment)
        whole = self._read(data, f"task {self.name}: what global_test() in {self._file} returned")
        if is_empty(whole):
            raise TaskError(f"task {self.name}: no global test examples")
        return draw_examples(whole, examples, derive_seed(self._experiment.seed, "global test examples"))

    def _make_objective(self) -> Objective | None:
        given = getattr(self._module, "objective", None)
        if given is None:
            return _ready(self._experiment.task.objective)
        if self._experiment.task.objective:
            named = self._experiment.task.objective
            raise ValueError(f"task.objective = {named!r}: expected none beside the task's own")
        objective = given if isinstance(given, Objective) else called(given, self._experiment)
        if not isinstance(objective, Objective):
            raise TypeError(f"{kind(objective)}, expected a lotteryfl.Objective, or a function that returns one")
        return objective

    def _read(self, part: Any, what: str) -> Dataset[Any]:
        """Return a part of the data as it is to be read."""
        data = part_of(part, what, labelled=self.objective is None and self._collate is None)
        workers = 0 if is_in_memory(data) or is_stream(data) else self._experiment.training.loader_workers
        if self._collate is None and not workers:
            return data
        return Loaded(data, self._collate or Loaded.collate, workers, self._code)

    def _located(self, function: str) -> AbstractContextManager[None]:
        return located(f"task {self.name}: {function} failed", self._file, TaskError)


def _augmented(augment: OwnAugment, what: str, file: str, batch: Any, random: torch.Generator) -> Any:
    with located(f"{what} failed", file, TaskError):
        augmented = augment(batch, random)
    if kind(augmented) != kind(batch):
        raise TaskError(f"{what} in {file} returned {kind(augmented)}, expected a batch as it got: {kind(batch)}")
    return augmented


def _ready(name: str) -> Objective | None:
    """Return the ready objective of an experiment's `task.objective`."""
    if not name:
        return None
    from lotteryfl.common.training import objectives

    ready: dict[str, Callable[[], Objective]] = {
        "classification": objectives.Classification,
        "binary": objectives.Binary,
        "regression": objectives.Regression,
        "language-modelling": objectives.LanguageModelling,
        "hugging-face": objectives.HuggingFace,
    }
    return ready[name]()
