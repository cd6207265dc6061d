"""The courses of all rows: what fails of one is its own, and leaves its row empty."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from lotteryfl.common.errors import OutputError
from lotteryfl.common.training.augmentation import OwnAugment
from lotteryfl.common.training.examples import Batch
from lotteryfl.common.training.loop import TrainResult
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.stacked.course import Course, Training

Failure = Exception | SystemExit
"""What a row's own data or augmentation raises."""


class Courses:
    """A course for each row that is there and has not failed."""

    def __init__(
        self,
        trainings: Sequence[Training | None],
        objective: Objective,
        augment: OwnAugment | None,
        device: torch.device,
    ) -> None:
        """Begin what can be begun.

        Args:
            trainings: a row each; None: it is missing.
            objective: what is learned.
            augment: the task's, done to every batch.
            device: where to train.
        """
        self.there: list[Course | None] = [None] * len(trainings)
        """By row."""
        self._failures: dict[int, Failure] = {}
        for row, training in enumerate(trainings):
            if training is not None:
                with self._own(row):
                    self.there[row] = Course(training, objective, augment, device)
        self._leave_out_the_odd()

    def _leave_out_the_odd(self) -> None:
        """Have examples of one form: what most rows have, of as many the first one's; augmented ones may yet be."""
        forms = {row: course.order.form for row, course in enumerate(self.there) if course}
        if not forms or any(course.order.is_augmented for course in self.there if course):
            return
        usual = Counter(forms.values()).most_common(1)[0][0]
        for row, form in forms.items():
            with self._own(row):
                if form != usual:
                    raise OutputError(f"engine.stacked: examples of {form}, and most clients stacked here have {usual}")

    @contextmanager
    def _own(self, row: int) -> Iterator[None]:
        """Let what the block raises be a row's, which is empty from then on."""
        try:
            yield
        except (Exception, SystemExit) as error:
            self.there[row], self._failures[row] = None, error

    @property
    def epoch(self) -> int:
        """Of the row that takes the most steps, from 1."""
        return max((course.total, course.epoch) for course in self.there if course)[1]

    def next(self) -> list[list[Batch]]:
        """Return the batches of every row's next step; none where it has no more."""
        taken: list[list[Batch]] = [[] for _ in self.there]
        for row, course in enumerate(self.there):
            if course is not None:
                with self._own(row):
                    taken[row] = course.next()
        return taken

    def results(self, losses: Sequence[Sequence[float]]) -> list[TrainResult | Failure | None]:
        """Return what each row did, by the losses of every step's rows, or why it did not."""
        return [
            self._failures.get(row) if course is None else course.result([each[row] for each in losses])
            for row, course in enumerate(self.there)
        ]
