"""Where plans are followed: one model on one device, and what an experiment says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.modeltensors import ModelTensor, model_tensors
from lotteryfl.common.pruning.pruned import Pruned, pruned_by
from lotteryfl.common.telemetry.stages import Stages
from lotteryfl.common.tensors.layout import Entry
from lotteryfl.common.tensors.tensorreceiver import new_tensor
from lotteryfl.common.training.augmentation import OwnAugment
from lotteryfl.common.training.dpsgd import ExamplePrivacy, train_privately
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.given import Data
from lotteryfl.common.training.gradients import mean_gradients
from lotteryfl.common.training.hooks import NONE, Hooks
from lotteryfl.common.training.loop import OnEpoch, OnStep, TrainResult, train_by_recipe, training_objective
from lotteryfl.common.training.measured import Evaluated
from lotteryfl.common.training.objective import Objective
from lotteryfl.common.training.recipe import Recipe
from lotteryfl.common.training.score import Score
from lotteryfl.common.training.stacked.course import Training
from lotteryfl.common.wire.payload import DENSE
from lotteryfl.common.wire.strategytensor import filled
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb


@dataclass(eq=False)
class Workplace:
    """What one assignment after the other is done with."""

    model: nn.Module
    """On the device; worked on in place, and plain: 0 off the masks that are in force."""
    table: TensorTable
    """Of the model and its strategy, without what is frozen."""
    experiment: Experiment
    """Its `training` section says how to train, `privacy` whether by DP-SGD, `strategy` which weights are prunable."""
    initial: Mapping[str, Tensor]
    """θ_0 by plain name; read, never changed."""
    device: torch.device
    """Where to evaluate and train."""
    objective: Objective | None = None
    """What the task learns and is measured by; None: classification."""
    score: Score = field(default_factory=Score)
    """What the run is judged by."""
    augment: OwnAugment | None = None
    """The task's, of training batches."""
    stages: Stages = field(default_factory=Stages)
    """Are told what evaluating takes."""
    in_force: Masks = field(default_factory=dict, init=False)
    """Packed masks by plain name, see `prune`."""
    tensors: Mapping[str, Tensor] = field(init=False)
    """The strategy's own by name of their row, on the device; before anything has come, each is its `fill`. A local
    algorithm writes to them in place."""
    _pruned: list[Pruned] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.tensors = filled(self.table.added, self.device)

    @cached_property
    def items(self) -> dict[str, ModelTensor]:
        """The model's tensors by plain name, as they are when this is first asked for."""
        return {item.name: item for item in model_tensors(self.model)}

    def place(self, entry: Entry) -> Tensor:
        """Give the tensor to receive an entry into: model's or strategy's where it takes the entry as it comes."""
        own = self._tensor(entry.name.removeprefix(DENSE)) if entry.name.startswith(DENSE) else None
        fits = own is not None and own.is_contiguous() and own.device.type == "cpu"
        if own is None or not fits or (own.dtype, tuple(own.shape)) != (entry.dtype, entry.shape):
            return new_tensor(entry)
        return own

    def _tensor(self, name: str) -> Tensor | None:
        item = self.items.get(name)
        return self.tensors.get(name) if item is None else item.tensor.detach()

    def prune(self, masks: Masks) -> None:
        """Have masks in force, packed and by plain name: the model is 0 off them."""
        self.in_force, self._pruned = masks, pruned_by(self.items, masks)

    def zero_pruned(self) -> None:
        """Have the model 0 off the masks, whatever has been done to it."""
        for each in self._pruned:
            each.zero()

    def evaluate(self, data: Dataset[Any], model: nn.Module | None = None) -> pb.Evaluation:
        """Score the model as it is, or another in its place."""
        size, model = self.experiment.evaluation.batch_size, self.model if model is None else model
        with self.stages.within("evaluate"):
            found = evaluate(model, data, batch_size=size, device=self.device, objective=self.objective)
        if isinstance(found, Evaluated):
            return pb.Evaluation(examples=found.examples, loss=found.loss, values=found.values)
        return pb.Evaluation(**asdict(found))

    def mean_gradients(self, data: Dataset[Any], model: nn.Module | None = None) -> dict[str, Tensor]:
        """Return the gradient of the mean loss over all examples, by the weights as they are, or by another model's."""
        model = self.model if model is None else model
        size = self.experiment.evaluation.batch_size
        objective = training_objective(self.experiment.training, self.objective)
        return mean_gradients(model, data, batch_size=size, device=self.device, objective=objective)

    def as_row(self, data: Data, recipe: Recipe, on_epoch: OnEpoch | None) -> Training:
        """Return the training of the model as one among others."""
        return Training(self.model, data, recipe, self._pruned, on_epoch)

    def train(
        self,
        data: Data,
        recipe: Recipe,
        on_step: OnStep | None,
        on_epoch: OnEpoch | None,
        hooks: Hooks = NONE,
    ) -> TrainResult:
        """Train the model, by DP-SGD where the experiment says so; what is pruned of it stays 0."""
        privacy = self.experiment.privacy
        if not privacy.dp_sgd:
            return self.train_model(self.model, self._pruned, data, recipe, on_step, on_epoch, hooks)
        examples = ExamplePrivacy(privacy.max_grad_norm, privacy.noise_multiplier)
        return train_privately(
            self.model,
            data,
            recipe,
            examples,
            device=self.device,
            objective=self.objective,
            pruned=self._pruned,
            on_step=on_step,
            on_epoch=on_epoch,
        )

    def train_model(
        self,
        model: nn.Module,
        pruned: Sequence[Pruned],
        data: Data,
        recipe: Recipe,
        on_step: OnStep | None,
        on_epoch: OnEpoch | None,
        hooks: Hooks,
    ) -> TrainResult:
        """Train a model that is plain, and 0 where it is pruned, as this one is trained without privacy."""
        return train_by_recipe(
            model,
            data,
            recipe,
            device=self.device,
            objective=self.objective,
            pruned=pruned,
            augment=self.augment,
            on_step=on_step,
            on_epoch=on_epoch,
            hooks=hooks,
        )
