"""Train several models of one shape at once: what each comes to is what it would come to alone, but for rounding."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import count

import torch
from torch import Tensor, nn

from lotteryfl.common.pruning.pruned import Pruned, plain_weights
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.seeding import seeded
from lotteryfl.common.training.augmentation import OwnAugment
from lotteryfl.common.training.examples import Batch
from lotteryfl.common.training.loop import OnStep, TrainResult, training_objective
from lotteryfl.common.training.objective import Objective, require_mean
from lotteryfl.common.training.precision import autocast
from lotteryfl.common.training.stacked.batches import Parts
from lotteryfl.common.training.stacked.course import Course, Training
from lotteryfl.common.training.stacked.courses import Courses, Failure
from lotteryfl.common.training.stacked.layers import Drawing, prepare_layers
from lotteryfl.common.training.stacked.losses import example_losses
from lotteryfl.common.training.stacked.models import Forward, StackedModels
from lotteryfl.common.training.stacked.steps import StackedSteps


def train_stacked(
    template: nn.Module,
    trainings: Sequence[Training | None],
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    objective: Objective | None = None,
    augment: OwnAugment | None = None,
    on_step: OnStep | None = None,
) -> list[TrainResult | Failure | None]:
    """Train as `train_by_recipe` does, all at once; what a row comes to does not depend on who else is there.

    To the bit that holds for as many rows, each in its place: a training that is missing leaves a row that counts for
    nothing.

    Args:
        template: a model of that shape for the forwards, of no use for anything else any more.
        trainings: a row each; None: it is missing.
        seed: of what is drawn for all at once, as by a forward from `random`.
        device: where to train.
        objective: what is learned, by a loss that is a mean over examples; None: classification by cross-entropy.
        augment: the task's, done to every batch after what the recipe says.
        on_step: called after every step, with the epoch of the longest row and the mean loss of the rows that took it;
            cancel the training by raising from it.

    Returns:
        What each training did, or what its own data or augmentation raised; None where it is missing.

    Raises:
        ValueError: as an `OutputError`, objective or model cannot be stacked.
    """
    device = torch.device(device)
    settings = next(training for training in trainings if training is not None).recipe.settings
    objective = training_objective(settings, objective)
    require_mean(objective, "engine.stacked")
    courses = Courses(trainings, objective, augment, device)
    if not any(courses.there):
        return courses.results([])
    with ExitStack() as entered:
        pruned = [entered.enter_context(plain_weights(t.model, t.pruned)) if t else [] for t in trainings]
        stack = _Stack(template, courses, pruned, objective, seed, device)
        for step in count():
            losses = stack.step(step)
            if not losses:
                break
            if on_step is not None:
                on_step(courses.epoch, step + 1, torch.stack(losses).mean())
    return courses.results(torch.stack(stack.losses).tolist() if stack.losses else [])


class _Stack:
    """The rows while they are trained."""

    def __init__(
        self,
        template: nn.Module,
        courses: Courses,
        pruned: Sequence[Sequence[Pruned]],
        objective: Objective,
        seed: int,
        device: torch.device,
    ) -> None:
        self._courses = courses
        self._seed = seed
        self._objective = objective
        self._device = device
        there: Sequence[Course | None] = list(courses.there)
        first = next(course for course in there if course is not None)
        settings = first.recipe.settings
        models = [None if course is None else course.model for course in there]
        orders = [None if course is None else course.order for course in there]
        self._parts = Parts(orders, settings.batch_size, device)
        self._drawing = Drawing([None if course is None else course.generator for course in there], device)
        prepare_layers(template.to(device).train(), self._drawing, device)
        self._rows = StackedModels(models, device)
        self._forward = Forward(template, objective, self._rows)
        self._steps = StackedSteps(self._rows, first.recipe, self._rows.pruned(models, pruned))
        self._cast = autocast(settings, device)
        self._accumulates = settings.accumulate > 1
        self._is_constant = settings.local_schedule.is_constant
        self.losses: list[Tensor] = []
        """Of every step the rows' losses, not yet fetched from the device."""

    def step(self, step: int) -> list[Tensor]:
        """Take a step, from 0, of every row that has one; return the losses of those rows."""
        taken = self._courses.next()
        if not any(taken):
            return []
        with self._unasked(step):
            losses = self._gradients(taken)
        self.losses.append(losses)
        self._steps.take(self._lr_factors(step))
        for row, course in enumerate(self._courses.there):
            if course and course.wants_model:
                with self._steps.averaged():
                    self._rows.put_into(course.model, row)
                course.show()
        return [loss for loss, batches in zip(losses.unbind(), taken, strict=True) if batches]

    def _unasked(self, step: int) -> AbstractContextManager[None]:
        """Let what is drawn for all be the step's own: of how many batches it is depends on who is here."""
        if not self._accumulates:
            return nullcontext()
        return seeded(derive_seed(self._seed, "step", step), self._device)

    def _gradients(self, taken: Sequence[Sequence[Batch]]) -> Tensor:
        """Find the gradients of the mean loss over the examples of each row's batches; return those losses."""
        self._steps.optimizer.zero_grad()
        weights = [1 / max(1, sum(batch.size for batch in batches)) for batches in taken]
        shares = []
        for number in range(max(map(len, taken))):
            part = self._parts.of([batches[number] if number < len(batches) else None for batches in taken], weights)
            self._drawing.sizes = part.sizes
            with self._cast:
                losses = example_losses(self._objective, self._forward(part.content), part.content)
                share = (losses * part.weights).sum(dim=1)
            share.sum().backward()  # type: ignore[no-untyped-call]
            shares.append(share.detach())
        return shares[0] if len(shares) == 1 else torch.stack(shares).sum(dim=0)

    def _lr_factors(self, step: int) -> Tensor | None:
        if self._is_constant:
            return None
        factors = [course.lr_factor(step) if course else 0.0 for course in self._courses.there]
        return torch.tensor(factors, device=self._device)
