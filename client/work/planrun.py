"""What a plan says between download and upload: judge, prune, rewind, train, exchange, select; on one model."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lotteryfl.client.work.prune import mask_change, prune_towards_target
from lotteryfl.client.work.select import select_own
from lotteryfl.common import packedmasks
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.packedmasks import PackedMask
from lotteryfl.common.pruning.parameters import named_masks, named_tensors
from lotteryfl.common.pruning.prune import prunable_entries, rewind
from lotteryfl.common.pruning.regrowth import exchange_weights
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.tasks.sampling import take
from lotteryfl.common.training.dpsgd import ExamplePrivacy, train_privately
from lotteryfl.common.training.gradients import mean_gradients
from lotteryfl.common.training.loop import OnEpoch, OnStep, TrainResult, evaluate, train_by_recipe
from lotteryfl.common.training.recipe import Recipe
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb


@dataclass(frozen=True)
class Done:
    """What the work came to."""

    trained: TrainResult
    masks: dict[str, PackedMask]
    """In force after it; with `Plan.owns_unkept`, of what is still shared."""


class LocalWork:
    """Follows plans on one model, in place."""

    def __init__(
        self,
        model: nn.Module,
        table: TensorTable,
        experiment: Experiment,
        initial: Mapping[str, Tensor],
        device: torch.device,
    ) -> None:
        """Take a model on.

        Args:
            model: on the device.
            table: of its tensors.
            experiment: its `training` section says how to train, `privacy` whether by DP-SGD.
            initial: θ_0 by plain name; read, never changed.
            device: where to evaluate and train.
        """
        self._model = model
        self._table = table
        self._training = experiment.training
        privacy = experiment.privacy
        self._train_model: Callable[..., TrainResult] = train_by_recipe
        if privacy.dp_sgd:
            examples = ExamplePrivacy(privacy.max_grad_norm, privacy.noise_multiplier)
            self._train_model = partial(train_privately, privacy=examples)
        self._prunable = experiment.strategy.prunable
        self._initial = initial
        self._device = device

    def follow(
        self,
        assignment: pb.Assignment,
        data: ClientData,
        masks: Mapping[str, PackedMask],
        metrics: pb.ClientMetrics,
        on_step: OnStep | None,
    ) -> Done:
        """Do what the plan says with the model as downloaded.

        Args:
            assignment: plan and seed.
            data: the client's.
            masks: packed masks that the model is under, by plain name.
            metrics: is given the evaluation that pruning was decided by.
            on_step: called after every training step; what it raises ends the work.
        """
        plan = assignment.plan
        if plan.measure_saliency:
            return Done(self._measure_saliency(data), dict(masks))
        before = self._copy() if plan.HasField("select") else {}
        if plan.HasField("prune") and not plan.prune.after_training:
            self._prune(assignment, data, metrics)
        trained = self._train(assignment, data, metrics, on_step)
        if plan.owns_unkept:
            return Done(trained, self._select(plan, before, masks))
        return Done(trained, {name: packedmasks.pack(mask) for name, mask in named_masks(self._model).items()})

    def evaluate(self, data: Dataset[Any]) -> pb.Evaluation:
        """Score the model as it is."""
        return pb.Evaluation(**asdict(evaluate(self._model, data, device=self._device)))

    def _prune(self, assignment: pb.Assignment, data: ClientData, metrics: pb.ClientMetrics) -> None:
        plan = assignment.plan
        metrics.validation.CopyFrom(self.evaluate(self._gate_data(assignment, data)))
        good_enough = metrics.validation.accuracy >= plan.prune.accuracy_threshold
        pruned = good_enough and prune_towards_target(self._model, plan.prune, self._prunable)
        if pruned and plan.rewind != pb.Plan.NONE:
            rewind(self._model, self._initial, everything=plan.rewind == pb.Plan.EVERYTHING)

    def _gate_data(self, assignment: pb.Assignment, data: ClientData) -> Dataset[Any]:
        """Return what decides on pruning: the validation data, or some of the test data as the official code has it."""
        examples = assignment.plan.prune.gate_test_examples
        if not examples:
            return data.validation
        shuffler = torch.Generator().manual_seed(derive_seed(assignment.seed, "gate"))
        size = len(data.test)  # type: ignore[arg-type]
        return take(data.test, torch.randperm(size, generator=shuffler)[:examples].numpy())

    def _train(
        self, assignment: pb.Assignment, data: ClientData, metrics: pb.ClientMetrics, on_step: OnStep | None
    ) -> TrainResult:
        plan = assignment.plan
        if plan.HasField("readjust"):
            return self._train_and_exchange(assignment, data, on_step)
        if not plan.prune.after_training:
            return self._train_for(plan.train.epochs, assignment, data, on_step)
        first: dict[str, Tensor] = {}

        def keep_first(epoch: int) -> None:
            if epoch == 1:
                first.update(self._copy())

        compares = bool(plan.prune.min_mask_change)
        trained = self._train_for(
            plan.train.epochs, assignment, data, on_step, on_epoch=keep_first if compares else None
        )
        if not compares or mask_change(self._model, first, plan.prune, self._prunable) >= plan.prune.min_mask_change:
            self._prune(assignment, data, metrics)
        return trained

    def _train_and_exchange(self, assignment: pb.Assignment, data: ClientData, on_step: OnStep | None) -> TrainResult:
        """Exchange weights after half of the epochs, or after the only one; those that come need some to grow in."""
        epochs = assignment.plan.train.epochs
        first = max(1, epochs // 2)
        trained = self._train_for(first, assignment, data, on_step)
        gradients = mean_gradients(self._model, data.train, device=self._device)
        exchange_weights(self._model, assignment.plan.readjust.rate, gradients)
        return self._train_for(epochs - first, assignment, data, on_step, after=first) if first < epochs else trained

    def _train_for(
        self,
        epochs: int,
        assignment: pb.Assignment,
        data: ClientData,
        on_step: OnStep | None,
        *,
        after: int = 0,
        on_epoch: OnEpoch | None = None,
    ) -> TrainResult:
        """Train, with a fresh optimizer; `after` so many epochs in another shuffling."""
        seed = derive_seed(assignment.seed, "after", after) if after else assignment.seed
        recipe = Recipe(self._training, epochs, assignment.plan.train.proximal, seed)
        return self._train_model(
            self._model, data.train, recipe, device=self._device, on_step=on_step, on_epoch=on_epoch
        )

    def _measure_saliency(self, data: ClientData) -> TrainResult:
        """Put |gradient × weight| in the place of every prunable weight (Lee et al. 2019, "SNIP", equation 6)."""
        loss = self.evaluate(data.train).loss
        gradients = mean_gradients(self._model, data.train, device=self._device)
        with torch.no_grad():
            for entry in prunable_entries(self._model, self._prunable):
                gradient = gradients.get(entry.name)
                entry.tensor.mul_(0 if gradient is None else gradient).abs_()
        return TrainResult(loss, len(data.train), 0)  # type: ignore[arg-type]

    def _select(
        self, plan: pb.Plan, before: Mapping[str, Tensor], masks: Mapping[str, PackedMask]
    ) -> dict[str, PackedMask]:
        if not plan.HasField("select"):
            return dict(masks)
        return select_own(self._table, before, named_tensors(self._model), masks, plan.select)

    def _copy(self) -> dict[str, Tensor]:
        """Return the prunable tensors as they are now."""
        return {entry.name: entry.tensor.detach().clone() for entry in prunable_entries(self._model, self._prunable)}
