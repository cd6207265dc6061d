"""The models of a task without code."""

from collections.abc import Sequence

from torch import nn

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models import architectures
from lotteryfl.common.models.named import ModelName
from lotteryfl.common.tasks.folders.options import Options
from lotteryfl.common.tasks.namedmodel import Build, named_model
from lotteryfl.common.text import quoted


def build_model(experiment: Experiment, options: Options) -> nn.Module:
    """Build the architecture `task.model` for inputs and labels of this kind.

    Raises:
        TaskError: there is no such architecture for them.
    """
    known = architectures("ag-news" if options.words else "tabular" if options.is_table else "cifar10")
    if experiment.task.model not in known:
        raise TaskError(f"task.model = {quoted(experiment.task.model)}: expected one of {', '.join(known)}")
    inputs = (options.words, *options.shape) if options.words else options.shape[:2]
    return known[experiment.task.model](*inputs, options.classes or 1)


def model_from_elsewhere(
    name: ModelName, experiment: Experiment, options: Options, allowed: Sequence[str]
) -> Build | None:
    """Return what builds the model that `task.model` names with where it comes from.

    Args:
        name: `task.model`.
        experiment: the experiment.
        options: what is said of inputs and labels.
        allowed: the files and modules that this process's operator named.

    Raises:
        TaskError: it is not for such inputs; or as `named_model`.
    """
    what = f"task.model = {quoted(str(name))}"
    if name.source == "transformers":
        if experiment.task.objective != "hugging-face":
            raise TaskError(f"{what}: expected task.objective = 'hugging-face' beside it")
        return named_model(experiment, allowed)
    if not name.is_own and options.images is None:
        raise TaskError(f"{what}: takes images, and task.options says {'texts' if options.words else 'a table'}")
    return named_model(experiment, allowed, options.images)
