"""What a plan says between download and upload: judge, prune, rewind, train, exchange, select; on one model.

Who follows a plan trains when it says so, by itself or with other plans that are at the same point.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lotteryfl.client.local.files import LocalCode
from lotteryfl.client.local.localrun import LocalRun, the_one
from lotteryfl.client.work.prune import is_due, mask_change, prune_towards_target
from lotteryfl.client.work.select import select_own
from lotteryfl.client.work.workplace import Workplace
from lotteryfl.common import packedmasks
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.parameters import named_masks, named_tensors, set_masks
from lotteryfl.common.pruning.prunable import prunable_tensors
from lotteryfl.common.pruning.prune import make_plain, rewind
from lotteryfl.common.pruning.regrowth import exchange_weights
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.tasks.sampling import draw_shuffled
from lotteryfl.common.training.hooks import NONE, Hooks
from lotteryfl.common.training.loop import OnEpoch, OnStep, TrainResult
from lotteryfl.common.training.recipe import Recipe
from lotteryfl.common.training.stacked.course import Training
from lotteryfl.common.wire.clientmetrics import is_good_enough
from lotteryfl.protos import lotteryfl_pb2 as pb


@dataclass(frozen=True)
class Wanted:
    """What is to be trained before a plan goes on."""

    workplace: Workplace
    data: Dataset[Any]
    recipe: Recipe
    on_epoch: OnEpoch | None
    hooks: Hooks = NONE
    epochs: int = 0
    """That have been trained before, as progress counts them."""
    steps: int = 0

    def alone(self, on_step: OnStep | None) -> TrainResult:
        """Train by itself."""
        return self.workplace.train(self.data, self.recipe, self._counted(on_step), self.on_epoch, self.hooks)

    def _counted(self, on_step: OnStep | None) -> OnStep | None:
        if on_step is None or not self.steps:
            return on_step
        return lambda epoch, step, loss: on_step(self.epochs + epoch, self.steps + step, loss)

    def as_row(self) -> Training:
        """Return the training as one among others."""
        return self.workplace.as_row(self.data, self.recipe, self.on_epoch)


Following = Generator[Wanted, TrainResult, "Done"]
"""Yields what is to be trained, and takes what that did."""


@dataclass(frozen=True)
class Done:
    """What the work came to."""

    trained: TrainResult
    masks: Masks
    """Packed masks in force after the work; with `Plan.owns_unkept`, those of what is still shared.
    The very ones that were given where they are as they were."""
    validation: pb.Evaluation | None
    """What pruning was decided by; None where there was nothing to decide."""
    personalised: Callable[[], nn.Module] | None = None
    """Gives the model that the client is measured by; None: the model itself."""


_Trains = Generator[Wanted, TrainResult, TrainResult]


class PlanRun:
    """One assignment's plan, followed once; every step works on the workplace's model, in place."""

    def __init__(
        self,
        workplace: Workplace,
        assignment: pb.Assignment,
        data: ClientData,
        masks: Masks,
        local: LocalCode | None = None,
        on_step: OnStep | None = None,
    ) -> None:
        """Take an assignment on.

        Args:
            workplace: its model as downloaded.
            assignment: plan and seed.
            data: the client's.
            masks: packed, by plain name; in force at the workplace, but where a client owns what they do not keep.
            local: the local algorithm that the plan may name; None: there is none.
            on_step: called after every step that this algorithm takes by itself.
        """
        self._workplace = workplace
        self._model = workplace.model
        self._prunable = workplace.experiment.strategy.prunable
        self._plan = assignment.plan
        self._seed = assignment.seed
        self._round = assignment.round
        self._data = data
        self._masks = masks
        self._validation: pb.Evaluation | None = None
        training = workplace.experiment.training
        lr = assignment.plan.train.lr
        self._training = training.model_copy(update={"lr": lr}) if lr else training
        self._local: LocalRun | None = None
        if (code := the_one(local, assignment.plan)) is not None:
            self._local = LocalRun(code, workplace, assignment, data, self._masks_now, self._training, on_step)

    def downloaded(self) -> nn.Module:
        """Return the model that the client is measured by before all else."""
        return self._local.downloaded() if self._local else self._model

    def follow(self) -> Following:
        """Do what the plan says, but for the training itself."""
        plan = self._plan
        if plan.measure_saliency:
            return Done(self._measure_saliency(), self._masks, None)
        before = self._copy() if plan.HasField("select") else {}
        if plan.HasField("prune") and not plan.prune.after_training:
            self._prune()
        trained = yield from self._train()
        personalised = self._local.personalised if self._local else None
        return Done(trained, self._masks_after(before), self._validation, personalised)

    def _masks_now(self) -> Masks:
        return self._masks if self._plan.owns_unkept else self._workplace.in_force

    def _prune(self) -> None:
        plan = self._plan
        self._validation = self._workplace.evaluate(self._gate_data())
        good_enough = is_good_enough(plan.prune, self._validation, self._workplace.score)
        if not good_enough or not is_due(plan.prune, self._workplace.table, self._workplace.in_force):
            return
        with self._in_pruned_state():
            pruned = prune_towards_target(self._model, plan.prune, self._prunable)
            if pruned and plan.rewind != pb.Plan.NONE:
                rewind(self._model, self._workplace.initial, everything=plan.rewind == pb.Plan.EVERYTHING)

    @contextmanager
    def _in_pruned_state(self) -> Iterator[None]:
        """Have the model as torch's pruning has it, for what changes masks; then they are in force as they are."""
        table, device = self._workplace.table, self._workplace.device
        in_force = self._workplace.in_force.items()
        set_masks(self._model, {name: packedmasks.unpack(mask, table[name].shape, device) for name, mask in in_force})
        yield
        masks = packedmasks.pack_all(named_masks(self._model))
        make_plain(self._model)
        self._workplace.prune(masks)

    def _gate_data(self) -> Dataset[Any]:
        """Return what decides on pruning: the validation data, or some of the test data as the official code has it."""
        examples = self._plan.prune.gate_test_examples
        if not examples:
            return self._data.validation
        return draw_shuffled(self._data.test, examples, derive_seed(self._seed, "gate"))

    def _train(self) -> _Trains:
        plan = self._plan
        if plan.HasField("readjust"):
            return self._train_and_exchange()
        if not plan.prune.after_training:
            return self._train_for(self._length)
        return self._train_and_prune()

    def _train_and_prune(self) -> _Trains:
        """Prune after training; where the plan asks for it, only if the first and the last epoch's masks differ."""
        plan = self._plan
        first: dict[str, Tensor] = {}

        def keep_first(epoch: int) -> None:
            if epoch == 1:
                first.update(self._copy())

        least = plan.prune.min_mask_change
        trained = yield from self._train_for(self._length, on_epoch=keep_first if least else None)
        if not least or self._mask_change(first) >= least:
            self._prune()
        return trained

    def _mask_change(self, earlier: Mapping[str, Tensor]) -> float:
        with self._in_pruned_state():
            return mask_change(self._model, earlier, self._plan.prune, self._prunable)

    def _train_and_exchange(self) -> _Trains:
        """Exchange weights half-way, for those that come to grow, or after the only epoch; or where it is said so."""
        first = self._length if self._plan.readjust.after_training else max(1, self._length // 2)
        left = self._length - first
        trained = yield from self._train_for(first, after=left)
        gradients = self._workplace.mean_gradients(self._data.train)
        for item in prunable_tensors(self._model, self._prunable):
            gradients.setdefault(item.name, torch.zeros_like(item.tensor))  # of what no example went through
        with self._in_pruned_state():
            exchange_weights(self._model, self._plan.readjust.rate, gradients)
        return (yield from self._train_for(left, before=first)) if left else trained

    @property
    def _length(self) -> int:
        """How long the plan trains, in epochs or, where it says how many, in steps."""
        return self._plan.train.steps or self._plan.train.epochs

    def _train_for(self, length: int, *, before: int = 0, after: int = 0, on_epoch: OnEpoch | None = None) -> _Trains:
        """Train, with a fresh optimizer, in the plan's unit; `before` so much has been, in another shuffling."""
        if self._local is not None:
            return (yield from self._train_locally(self._local, on_epoch))
        recipe = self._recipe(length, before, after, in_steps=bool(self._plan.train.steps))
        return (yield Wanted(self._workplace, self._data.train, recipe, on_epoch))

    def _recipe(self, length: int, before: int, after: int, *, in_steps: bool) -> Recipe:
        return Recipe(
            self._training,
            0 if in_steps else length,
            self._plan.train.proximal,
            derive_seed(self._seed, "after", before) if before else self._seed,
            steps=length if in_steps else 0,
            lr_factor=self._training.lr_factor(self._round, self._workplace.experiment.rounds),
            before=before,
            after=after,
        )

    def _train_locally(self, local: LocalRun, on_epoch: OnEpoch | None) -> _Trains:
        """Train as a local algorithm has it: phase by phase, each with its hooks."""
        local.begin()
        for stretch in local.stretches():
            recipe = self._recipe(stretch.length, stretch.before, stretch.after, in_steps=stretch.in_steps)
            epochs, steps = local.epochs, local.steps
            with local.training(stretch) as hooks:
                trained = yield Wanted(
                    self._workplace, self._data.train, recipe, _later(on_epoch, epochs), hooks, epochs, steps
                )
        local.end()
        return replace(trained, steps=local.steps)

    def _measure_saliency(self) -> TrainResult:
        """Put |gradient × weight| in the place of every prunable weight (Lee et al. 2019, "SNIP", equation 6)."""
        train = self._data.train
        if examples := self._plan.saliency_examples:
            train = draw_shuffled(train, examples, derive_seed(self._seed, "saliency"))
        measured = self._workplace.evaluate(train)
        gradients = self._workplace.mean_gradients(train)
        with torch.no_grad():
            for item in prunable_tensors(self._model, self._prunable):
                gradient = gradients.get(item.name)
                item.tensor.mul_(0 if gradient is None else gradient).abs_()
        return TrainResult(measured.loss, measured.examples, 0)

    def _masks_after(self, before: Mapping[str, Tensor]) -> Masks:
        plan = self._plan
        if not plan.owns_unkept:
            return self._workplace.in_force
        if not plan.HasField("select"):
            return self._masks
        return select_own(self._workplace.table, before, named_tensors(self._model), self._masks, plan.select)

    def _copy(self) -> dict[str, Tensor]:
        """Return the prunable tensors as they are now."""
        return {item.name: item.tensor.detach().clone() for item in prunable_tensors(self._model, self._prunable)}


def _later(on_epoch: OnEpoch | None, epochs: int) -> OnEpoch | None:
    """Return what is called after every epoch, where so many have been before."""
    if on_epoch is None or not epochs:
        return on_epoch
    return lambda epoch: on_epoch(epochs + epoch)
