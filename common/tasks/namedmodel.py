"""The model that `task.model` names with where it comes from: a library's, or one of a module of the user's own.

A module is code, so that it is imported only where the process's operator allowed it, as a task's is: by `--task`. An
experiment that comes over the wire chooses among what is allowed. A library's model is built of names and numbers.
"""

from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from typing import Any

from torch import nn

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models.libraries import Data, build_from_library
from lotteryfl.common.models.named import LIBRARIES, ModelName, model_name
from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.owncode.usercode import absolute, first_line, import_source, located
from lotteryfl.common.randomness import derive_seed, model_seed
from lotteryfl.common.seeding import seeded
from lotteryfl.common.text import kind, quoted

Build = Callable[[], nn.Module]


def named_model(experiment: Experiment, allowed: Sequence[str], images: Data | None = None) -> Build | None:
    """Return what builds the model that the experiment names; None: it names an architecture.

    Args:
        experiment: whose `task.model` it is.
        allowed: the files and modules that this process's operator named.
        images: what a built-in task's images are.

    Raises:
        TaskError: the module is not allowed here, or has no such function.
    """
    name = model_name(experiment.task.model)
    if name is None:
        return None
    if name.is_own:
        return _own_model(name, experiment, allowed)
    return lambda: _from_library(name, experiment, images)


def sources(experiment: Experiment) -> tuple[str, ...]:
    """Return the module or file that the model is from, if it is one: to be allowed where its author named it."""
    name = model_name(experiment.task.model)
    return (name.source,) if name and name.is_own else ()


def find_allowed(what: str, source: str, allowed: Sequence[str], otherwise: str) -> str:
    """Return the one of the allowed files and modules that has the name of a source.

    Args:
        what: what it is, as "task 'mine'": the error begins with it.
        source: a file or module, maybe of another machine.
        allowed: the files and modules that this process's operator named.
        otherwise: what the error says at last where there is none.

    Raises:
        TaskError: there is none, or more than one.
    """
    found = {absolute(each) for each in allowed if task_id(each) == task_id(source)}
    if not found:
        raise TaskError(f"{what} is not installed here: name its file with --task; {otherwise}")
    if len(found) > 1:
        raise TaskError(f"{what} is ambiguous: {' and '.join(sorted(found))} have this name")
    return found.pop()


def _from_library(name: ModelName, experiment: Experiment, images: Data | None) -> nn.Module:
    what = f"task.model = {quoted(str(name))}"
    try:
        with seeded(model_seed(experiment.seed)):
            return build_from_library(name, images)
    except ImportError as error:
        if error.name != name.source:
            raise TaskError(f"{what}: {name.source} cannot be imported: {first_line(error)}") from error
        raise TaskError(
            f"{what}: {name.source} is not installed here: pip install 'lotteryfl[{name.source}]'"
        ) from error
    except Exception as error:  # whatever a library raises at a name or an option that it does not know
        raise TaskError(f"{what}: {first_line(error)}") from error


def _own_model(name: ModelName, experiment: Experiment, allowed: Sequence[str]) -> Build:
    what = f"model {name.short}"
    source = find_allowed(what, name.source, allowed, f"or name a model of {', '.join(LIBRARIES)}")
    with seeded(derive_seed(experiment.seed, "task")):
        module = import_source(what, source, TaskError)
    file = str(module.__file__)
    function = getattr(module, name.name, None)
    if not callable(function):
        raise TaskError(f"{what}: {file} has no function {name.name}()")

    def build() -> nn.Module:
        with seeded(model_seed(experiment.seed)), located(f"{what}: {name.name}() failed", file, TaskError):
            model = called(function, experiment, **name.options)
        if not isinstance(model, nn.Module):
            raise TaskError(f"{what}: {name.name}() in {file} returned {kind(model)}, expected a torch.nn.Module")
        return model

    return build


def called(function: Callable[..., Any], experiment: Experiment, **options: Any) -> Any:
    """Call a function of the user's with options, and with the experiment, if it takes one."""
    parameters = list(signature(function).parameters.values())[:1]
    takes = any(
        parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        and (parameter.name == "experiment" or parameter.default is Parameter.empty)
        and parameter.name not in options
        for parameter in parameters
    )
    return function(experiment, **options) if takes else function(**options)
