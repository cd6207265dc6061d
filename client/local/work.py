"""What a local algorithm gets: one client's model, data and tensors for one assignment, and nothing else."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lotteryfl.client.local.stretches import check_length
from lotteryfl.client.work.workplace import Workplace
from lotteryfl.common import packedmasks
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.modeltensors import ModelTensor, model_tensors
from lotteryfl.common.pruning.parameters import copy_model
from lotteryfl.common.pruning.pruned import pruned_by
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.training.given import is_stream
from lotteryfl.common.training.hooks import Hooks, Model
from lotteryfl.common.training.loop import OnStep, TrainResult
from lotteryfl.common.training.recipe import Recipe, TrainingSettings
from lotteryfl.protos import lotteryfl_pb2 as pb


class LocalWork:
    """An assignment, as a local algorithm sees it."""

    def __init__(
        self,
        workplace: Workplace,
        assignment: pb.Assignment,
        data: ClientData,
        masks: Callable[[], Masks],
        options: Mapping[str, Any],
        training: TrainingSettings,
        on_step: OnStep | None,
        max_epochs: int | None = None,
    ) -> None:
        """Prepare; an algorithm is given it.

        Args:
            workplace: its model as downloaded.
            assignment: plan and seed.
            data: the client's.
            masks: gives those that are in force now, packed, by plain name.
            options: what the strategy tells it.
            training: how this assignment is trained.
            on_step: called after every step of `train`.
            max_epochs: the most that one `train` may take; None: any.
        """
        experiment = workplace.experiment
        self._workplace = workplace
        self._seed = assignment.seed
        self._plan = assignment.plan.train
        self._has_free_mask = assignment.plan.HasField("free_mask")
        self._data = data
        self._masks_now = masks
        self._training = training
        self._lr_factor = training.lr_factor(assignment.round, experiment.rounds)
        self._on_step = on_step
        self._max_epochs = max_epochs
        self._trainable = frozenset(item.name for item in workplace.items.values() if item.tensor.requires_grad)
        self._unpacked: tuple[Masks, Mapping[str, Tensor]] | None = None
        self.model: nn.Module = workplace.model
        """Plain: 0 off the masks."""
        self.table = workplace.table.model
        """Of what trains, and of buffers."""
        self.tensors: Mapping[str, Tensor] = MappingProxyType(workplace.tensors)
        """The strategy's by name, on the device; written in place."""
        self.initial: Mapping[str, Tensor] = workplace.initial
        """θ_0 by plain name, on the CPU; read, never changed."""
        self.options = options
        """What the strategy tells it."""
        self.round: int = assignment.round
        """From 1; beyond the experiment's rounds every client personalises."""
        self.client: int = assignment.client
        self.device = workplace.device
        self.examples = 0 if is_stream(data.train) else len(data.train)  # type: ignore[arg-type]
        """Of training; 0: a stream, whose length nobody knows yet."""
        self.lr = training.lr * self._lr_factor
        """Of this round, before its schedule over steps."""
        self.generator = torch.Generator().manual_seed(derive_seed(assignment.seed, "local"))
        """On the CPU, of the assignment's seed."""

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """Those in force, bool, on the device, by name of the weight; what has none is dense."""
        packed = self._masks_now()
        if self._unpacked is None or self._unpacked[0] is not packed:
            table, device = self._workplace.table, self.device
            masks = {name: packedmasks.unpack(mask, table[name].shape, device) for name, mask in packed.items()}
            self._unpacked = packed, masks
        return self._unpacked[1]

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return the model's parameters by plain name, each once; also those that are not trained."""
        items = self._workplace.items.values()
        return {item.name: item.tensor for item in items if isinstance(item.tensor, nn.Parameter)}

    def prunable(self) -> dict[str, nn.Parameter]:
        """Return those of the parameters that the experiment prunes, by plain name."""
        names = {spec.name for spec in self._workplace.table if spec.prunable}
        return {name: parameter for name, parameter in self.named_parameters().items() if name in names}

    def like(self, name: str) -> dict[str, Tensor]:
        """Return the strategy's tensors that it declares under a name, by the names of what they are like."""
        prefix = f"{name}:"
        return {row.removeprefix(prefix): each for row, each in self.tensors.items() if row.startswith(prefix)}

    def computing_with(self, values: Mapping[str, Tensor]) -> Model:
        """Return what computes as the model does with other values, through which gradients go, for `loss_of`.

        Args:
            values: of parameters and buffers by plain name; all others are the model's.
        """
        return lambda *inputs, **named: functional_call(self.model, dict(values), inputs, named)

    def keep(self, masks: Mapping[str, Tensor]) -> None:
        """Say, at the end, under which masks the model goes up; by a plan with a free mask, which nothing else makes.

        Args:
            masks: not 0 where a weight is kept, on the model's device, by the plain names of prunable weights; what
                has none goes up whole.

        Raises:
            ValueError: the plan has no free mask, or there is no such weight.
        """
        if not self._has_free_mask:
            raise ValueError("work.keep: the plan has no free mask: expected one of a strategy whose plans have it")
        prunable = self.prunable()
        for name, mask in masks.items():
            if name not in prunable or mask.shape != prunable[name].shape:
                raise ValueError(f"work.keep: {name!r} of shape {list(mask.shape)} is no prunable weight")
        self._workplace.prune(packedmasks.pack_all(masks))

    def copy(self) -> nn.Module:
        """Return a copy of the model as it is; what trains of a model trains of it, whatever the phase."""
        copied = copy_model(self.model)
        self._set_trainable(model_tensors(copied))
        return copied

    def train(
        self,
        model: nn.Module,
        *,
        epochs: int = 0,
        steps: int = 0,
        proximal: float = 0.0,
        towards: Mapping[str, Tensor] | None = None,
        what: str = "more",
    ) -> TrainResult:
        """Train a model by the experiment's recipe, in place, with the task's loss and none of the hooks.

        Weights with the name and shape of a pruned one of the client's model are 0 off its mask, and stay so.

        Args:
            model: any that the task's objective takes, as `copy` returns one.
            epochs: passes over the data.
            steps: in place of epochs; 0, as epochs are: for as long as the plan says.
            proximal: μ of the term μ/2 ‖w − w₀‖² that is added to the loss.
            towards: w₀ by plain name; None: the model as it is now.
            what: another order of examples and other draws for another one.
        """
        if not (epochs or steps):
            epochs, steps = (0, self._plan.steps) if self._plan.steps else (self._plan.epochs, 0)
        check_length("work.train", steps or epochs, self._max_epochs, in_steps=bool(steps))
        items = {item.name: item for item in model_tensors(model)}
        masks = {
            name: mask
            for name, mask in self._masks_now().items()
            if name in items and items[name].tensor.shape == self._workplace.table[name].shape
        }
        pruned = pruned_by(items, masks)
        for each in pruned:
            each.zero()
        seed = derive_seed(self._seed, f"local training: {what}")
        recipe = Recipe(self._training, epochs, proximal, seed, steps, self._lr_factor)
        with torch.enable_grad(), self._all_trainable(model):
            return self._workplace.train_model(
                model, pruned, self._data.train, recipe, self._on_step, None, Hooks(towards=towards)
            )

    def gradients(self, model: nn.Module | None = None) -> dict[str, Tensor]:
        """Return the gradient of the mean loss over the client's training data, by plain name of the parameter.

        Pruned weights have theirs too; no step, hook or gradient of a training that is under way notices.

        Args:
            model: whose; None: the client's as it is.
        """
        model = self.model if model is None else model
        held = [(parameter, parameter.grad) for parameter in model.parameters()]
        for parameter, _ in held:
            parameter.grad = None
        try:
            with torch.enable_grad(), self._all_trainable(model):
                return self._workplace.mean_gradients(self._data.train, model)
        finally:
            for parameter, gradient in held:
                parameter.grad = gradient

    def mean_loss(self, model: nn.Module | None = None) -> float:
        """Return the mean loss over the client's training data, of a model in eval mode.

        Args:
            model: any that the task's objective takes; None: the client's as it is.
        """
        return self._workplace.evaluate(self._data.train, model).loss

    @contextmanager
    def _all_trainable(self, model: nn.Module) -> Iterator[None]:
        """Let all of the client's own model train for a while, whatever the phase; other models are as they are."""
        if model is not self.model:
            yield
            return
        found = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        self._set_trainable(model_tensors(model))
        try:
            yield
        finally:
            for parameter, was in found:
                parameter.requires_grad_(was)

    def _set_trainable(self, items: Sequence[ModelTensor]) -> None:
        for item in items:
            if item.is_parameter and item.tensor.is_floating_point():
                item.tensor.requires_grad_(item.name in self._trainable)
