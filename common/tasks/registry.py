"""Which tasks there are: built in, or the user's own."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.hubplace import PREFIX as HUB
from lotteryfl.common.models.named import model_name
from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.tasks import hub
from lotteryfl.common.tasks.base import Task
from lotteryfl.common.tasks.builtin import BuiltInTask, Loader
from lotteryfl.common.tasks.custom import CustomTask, load_custom
from lotteryfl.common.tasks.datasets import (
    ag_news,
    cifar,
    cinic10,
    digits,
    emnist,
    femnist,
    har,
    languages,
    mnist,
    svhn,
    tabular,
    tinyimagenet,
)
from lotteryfl.common.tasks.folders.models import model_from_elsewhere
from lotteryfl.common.tasks.namedmodel import sources
from lotteryfl.common.text import quoted

BUILT_IN: dict[str, Loader] = {
    "digits": digits.load,
    "mnist": mnist.load,
    "fashion-mnist": mnist.load,
    "emnist-balanced": emnist.load,
    "emnist-letters": emnist.load,
    "emnist-byclass": emnist.load,
    "femnist": femnist.load,
    "cifar10": cifar.load,
    "cifar100": cifar.load,
    "cinic10": cinic10.load,
    "svhn": svhn.load,
    "tiny-imagenet": tinyimagenet.load,
    "har": har.load,
    "tabular": tabular.load,
    "languages": languages.load,
    "ag-news": ag_news.load,
}
"""Name → loader of (training data, test data)."""


WITHOUT_CODE = {"folders": "lotteryfl.common.tasks.folders.task"}
"""Name → module of the tasks over anybody's data."""


def load_task(experiment: Experiment, allowed: Sequence[str] = ()) -> Task:
    """Load the task that an experiment names.

    A built-in task is always there; its data is read when the first client's is asked for. Of the user's own
    tasks only those in `allowed` are: the experiment may come over the wire, and only chooses among them.

    Args:
        experiment: names the task, by `task_id` or by a name that has this id.
        allowed: the task files and modules that this process's operator named.

    Raises:
        TaskError: the task or its architecture is unknown here, or the user's file is not a task.
    """
    names = {*BUILT_IN, *WITHOUT_CODE}
    for own in {experiment.task.name, *allowed} - names:
        if task_id(own) in names:
            raise TaskError(f"task {own}: {task_id(own)!r} is a built-in task; give your own another name")
    name = experiment.task.name
    if name in BUILT_IN:
        return BuiltInTask(name, experiment, BUILT_IN[name], allowed)
    if name in WITHOUT_CODE:
        return _over_data(name, import_module(WITHOUT_CODE[name]), experiment, allowed)
    if name.startswith(HUB):
        if name not in allowed:
            raise TaskError(f"task {quoted(name)} is not allowed here: name it with --task")
        return _over_data(name, hub, experiment, allowed)
    return load_custom(experiment, allowed, BUILT_IN)


def _over_data(name: str, module: ModuleType, experiment: Experiment, allowed: Sequence[str]) -> CustomTask:
    """Return a task without code, whose model is the module's architecture or, where it is named so, from elsewhere."""
    model = model_name(experiment.task.model)
    build = model_from_elsewhere(model, experiment, module.options_of(experiment), allowed) if model else None
    return CustomTask(name, module, experiment, build=build)


def own_sources(experiment: Experiment) -> tuple[str, ...]:
    """Return the files and modules of the user's own that an experiment names: its task's, and its model's."""
    task = () if experiment.task.name in {*BUILT_IN, *WITHOUT_CODE} else (experiment.task.name,)
    return task + sources(experiment)
