"""On what test data an assignment's model is measured."""

from functools import cached_property
from typing import Any

from torch.utils.data import Dataset

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.tasks import ClientData, Task
from lotteryfl.common.tasks.sampling import draw_examples
from lotteryfl.protos import lotteryfl_pb2 as pb

_ALL = 2**63 - 1
"""More examples than there are."""


class TestData:
    """The examples that the experiment's `evaluation` section chooses: the same ones on every worker."""

    __test__ = False  # pytest: it is none

    def __init__(self, task: Task, experiment: Experiment) -> None:
        self._task = task
        self._experiment = experiment

    def own(self, assignment: pb.Assignment, data: ClientData) -> Dataset[Any]:
        """Return the client's test examples; in training rounds at most `evaluation.test_examples`, always the same."""
        most = self._experiment.evaluation.test_examples
        if not most or assignment.round > self._experiment.rounds:
            return data.test
        return draw_examples(data.test, most, derive_seed(self._experiment.seed, "test examples", assignment.client))

    def everybodys(self, assignment: pb.Assignment) -> Dataset[Any] | None:
        """Return the task's global test examples for the client's model; None where they are not asked for.

        Raises:
            TaskError: the task has none.
        """
        return self._global if self._experiment.measures_globally(assignment.round) else None

    def of_shared(self, assignment: pb.Assignment) -> Dataset[Any] | None:
        """Return the same examples for the shared model; None where its plan does not measure it.

        Raises:
            TaskError: the task has none.
        """
        return self._global if assignment.plan.measure_shared else None

    @cached_property
    def _global(self) -> Dataset[Any]:
        return self._task.global_test(self._experiment.evaluation.global_examples or _ALL)
