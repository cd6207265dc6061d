"""Whether a task makes the model that a run was set up with."""

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks import Task
from lotteryfl.common.tasks.base import frozen_of
from lotteryfl.common.wire.table import TensorTable

_OTHER_RULE = (
    "; all else is the same: the run was set up by a version with another rule of what is prunable, or a layer was "
    "frozen since: go on with what it was set up with, or begin a new run"
)


def check_same_model(task: Task, experiment: Experiment, table: TensorTable) -> None:
    """Check that a task's model is the run's, tensor by tensor.

    Args:
        task: of the experiment, as it is here.
        experiment: the run's.
        table: the run's, made when it was set up.

    Raises:
        TaskError: naming the first tensor that differs.
    """
    knows = bool(table.frozen)  # a table from before there was the role says nothing of it
    mine = TensorTable.of(task.model(), experiment.strategy.prunable, frozen_of(task), knows_frozen=knows)
    if difference := mine.difference(table):
        if mine.with_nothing_prunable() == table.with_nothing_prunable():
            difference += _OTHER_RULE
        raise TaskError(f"task {task.name}: this worker's model is not the coordinator's: {difference}")
