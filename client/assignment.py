"""One client's work in one round, as the plan says: evaluate, prune, rewind, train, evaluate."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from client.pruningstep import prune_towards_target
from common import masks as packed_masks
from common.clientmetrics import check_metrics
from common.experiment import Experiment
from common.masks import PackedMask
from common.parameters import named_masks, named_tensors
from common.payload import DENSE, mask_digest, pack_mask_update
from common.pruning import apply_masks, density, rewind
from common.tasks import ClientData, Task
from common.tensorlayout import Entry
from common.tensorreceiver import new_tensor
from common.tensortable import TensorTable
from common.training import OnStep, TrainResult, evaluate, train
from common.wireformat import WireFormat
from protos import lotteryfl_pb2 as pb


@dataclass(frozen=True)
class Outcome:
    """What goes back to the coordinator."""

    examples: int
    metrics: pb.ClientMetrics
    masks: Mapping[str, PackedMask]
    mask_digest: str
    entries: Mapping[str, Tensor]


class AssignmentRunner:
    """Does assignments on one device, one after the other; nothing of one is left for the next."""

    def __init__(
        self,
        task: Task,
        experiment: Experiment,
        table: TensorTable,
        initial: Mapping[str, Tensor],
        device: torch.device,
    ) -> None:
        """Build the task's model.

        Args:
            task: model and data.
            experiment: the resolved experiment; its `training` section says how to train, its `wire_dtype` in what
                the weights travel.
            table: the model's tensor table.
            initial: θ_0 by plain name; read, never changed.
            device: where to evaluate and train.
        """
        self._task = task
        self._training = experiment.training
        self._prunable = experiment.strategy.prunable
        self._wire = WireFormat(table, experiment.wire_dtype)
        self._initial = initial
        self._device = device
        self._model = task.model().to(device)
        self._tensors = named_tensors(self._model)

    def place(self, entry: Entry) -> Tensor:
        """Give the tensor to receive an entry into: the model's own where it takes the entry as it comes."""
        own = self._tensors.get(entry.name.removeprefix(DENSE)) if entry.name.startswith(DENSE) else None
        fits = own is not None and own.is_contiguous() and own.device.type == "cpu"
        if own is None or not fits or (own.dtype, tuple(own.shape)) != (entry.dtype, entry.shape):
            return new_tensor(entry)
        return own

    def run(
        self,
        assignment: pb.Assignment,
        entries: Mapping[str, Tensor],
        masks: Mapping[str, PackedMask],
        on_step: OnStep | None = None,
    ) -> Outcome:
        """Follow the assignment's plan.

        Args:
            assignment: round, client, seed and plan.
            entries: the payload: kept and dense values of the model to start from.
            masks: the client's packed masks by tensor name; empty: dense.
            on_step: called after every training step; what it raises ends the work.

        Raises:
            PayloadError: the entries are not what table and masks say, or the trained weights are not finite or
                cannot travel: a coordinator would refuse the result, which is none.
            TaskError: the task cannot give this client's data.
        """
        try:
            return self._follow(assignment, entries, masks, on_step)
        finally:
            self._tensors = named_tensors(self._model)  # a forward may have put another tensor in a buffer's place

    def _follow(
        self,
        assignment: pb.Assignment,
        entries: Mapping[str, Tensor],
        masks: Mapping[str, PackedMask],
        on_step: OnStep | None,
    ) -> Outcome:
        started = time.monotonic()
        self._load(entries, masks)
        data = self._task.client_data(assignment.client)
        metrics = pb.ClientMetrics(downloaded=self._evaluate(data.test))
        if assignment.plan.HasField("prune"):
            self._prune(assignment.plan, data, metrics)
        trained = self._train(assignment, data, on_step)
        new_masks = {name: packed_masks.pack(mask) for name, mask in named_masks(self._model).items()}
        values = self._pack(new_masks)
        metrics.personalised.CopyFrom(self._evaluate(data.test))
        metrics.train_loss = trained.loss
        metrics.density = density(self._model, self._prunable)
        metrics.seconds = time.monotonic() - started
        check_metrics(metrics)
        self._wire.check(values, new_masks)
        update = pack_mask_update(new_masks, masks)
        return Outcome(trained.examples, metrics, new_masks, mask_digest(new_masks), values | update)

    def _load(self, entries: Mapping[str, Tensor], masks: Mapping[str, PackedMask]) -> None:
        table = self._wire.table
        self._wire.unpack_into(entries, masks, self._tensors)
        unpacked = {name: packed_masks.unpack(mask, table[name].shape) for name, mask in masks.items()}
        apply_masks(self._model, unpacked)

    def _prune(self, plan: pb.Plan, data: ClientData, metrics: pb.ClientMetrics) -> None:
        metrics.validation.CopyFrom(self._evaluate(data.validation))
        good_enough = metrics.validation.accuracy >= plan.prune.accuracy_threshold
        pruned = good_enough and prune_towards_target(self._model, plan.prune, self._prunable)
        if pruned and plan.rewind == pb.Plan.INITIAL:
            rewind(self._model, self._initial)

    def _train(self, assignment: pb.Assignment, data: ClientData, on_step: OnStep | None) -> TrainResult:
        settings = self._training
        return train(
            self._model,
            data.train,
            epochs=assignment.plan.train.epochs,
            lr=settings.lr,
            batch_size=settings.batch_size,
            optimizer=settings.optimizer,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            seed=assignment.seed,
            device=self._device,
            on_step=on_step,
        )

    def _pack(self, masks: Mapping[str, PackedMask]) -> dict[str, Tensor]:
        """Return the model as it travels; the model is then just that, so that what is measured is what arrives."""
        tensors = named_tensors(self._model)
        entries = self._wire.pack(tensors, masks)
        if not self._wire.is_lossless:
            self._wire.unpack_into(entries, masks, tensors)
        return entries

    def _evaluate(self, data: Dataset[Any]) -> pb.Evaluation:
        return pb.Evaluation(**asdict(evaluate(self._model, data, device=self._device)))
