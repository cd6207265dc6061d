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


def check_same_model(task: Task, experiment: Experiment, table: TensorTable, *, knows_frozen: bool) -> None:
    """Check that a task's model is the run's, tensor by tensor.

    Args:
        task: of the experiment, as it is here.
        experiment: the run's.
        table: the run's, made when it was set up; of its strategy's own tensors, and what that keeps fixed, no task
            knows.
        knows_frozen: it was by a version that has a role for what is frozen; False: only if the table says so.

    Raises:
        TaskError: naming the first tensor that differs.
    """
    model, prunable, frozen = task.model(), experiment.strategy.prunable, frozen_of(task)
    table = table.model.fixing(())
    mine = TensorTable.of(model, prunable, frozen, knows_frozen=bool(table.frozen))
    difference = mine.difference(table)
    if difference and mine.with_nothing_prunable() == table.with_nothing_prunable():
        difference += _OTHER_RULE
    if knows_frozen and not difference:
        difference = TensorTable.of(model, prunable, frozen).difference(table)
    if difference:
        raise TaskError(f"task {task.name}: this worker's model is not the coordinator's: {difference}")
