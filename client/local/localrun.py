"""A local algorithm at work on one assignment: its hooks are called, what they return is checked, its errors named."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lotteryfl.client.local.algorithm import LocalAlgorithm
from lotteryfl.client.local.files import LocalCode
from lotteryfl.client.local.stretches import Stretch, check_length, only, stretches
from lotteryfl.client.local.work import LocalWork
from lotteryfl.client.work.workplace import Workplace
from lotteryfl.common.errors import LocalAlgorithmError, TaskError
from lotteryfl.common.owncode.usercode import located
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.modeltensors import model_tensors
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.text import kind, quoted
from lotteryfl.common.training.hooks import Hooks, LossOf, Model
from lotteryfl.common.training.loop import OnStep
from lotteryfl.common.training.recipe import TrainingSettings
from lotteryfl.protos import lotteryfl_pb2 as pb


class LocalRun:
    """One assignment's algorithm; counts over its phases."""

    def __init__(
        self,
        code: LocalCode,
        workplace: Workplace,
        assignment: pb.Assignment,
        data: ClientData,
        masks: Callable[[], Masks],
        training: TrainingSettings,
        on_step: OnStep | None,
    ) -> None:
        """Make the algorithm.

        Args:
            code: which, and where it is.
            workplace: its model is as downloaded.
            assignment: plan and seed.
            data: the client's.
            masks: gives those that are in force, packed, by plain name.
            training: how this assignment is trained.
            on_step: called after every step that the algorithm takes by itself.

        Raises:
            TaskError: its code fails.
        """
        self._code = code
        self._workplace = workplace
        self._client = assignment.client
        self._plan = assignment.plan
        text = assignment.plan.local.options_json
        options = json.loads(text) if text else {}
        self._work = LocalWork(workplace, assignment, data, masks, options, training, on_step, code.max_epochs)
        self.steps = self.epochs = 0
        """That have been trained."""
        self._towards: Mapping[str, Tensor] | None = None
        self._forms = {name: (item.tensor.shape, item.tensor.dtype) for name, item in workplace.items.items()}
        self._own_forms = {name: (tensor.shape, tensor.dtype) for name, tensor in workplace.tensors.items()}
        with self._calling("__init__"):
            self._algorithm = code.algorithm(self._work)

    def downloaded(self) -> nn.Module:
        """Return the model that the client is measured by before all else.

        Raises:
            TaskError: as for `personalised`.
        """
        return self._measured("downloaded", "which the work begins with")

    def begin(self) -> None:
        """Let it begin: the model is as downloaded, pruned and rewound as the plan says."""
        if self._plan.train.proximal:
            parameters = self._work.named_parameters().items()
            self._towards = {name: each.detach().clone() for name, each in parameters if each.requires_grad}
        with self._calling("begin"):
            self._algorithm.begin()
        self._workplace.zero_pruned()

    def stretches(self) -> list[Stretch]:
        """Return what it trains, one after the other."""
        with self._calling("phases"):
            phases = list(self._algorithm.phases())
        train = self._plan.train
        with self._checking():
            found = stretches(phases, train.steps or train.epochs, in_steps=bool(train.steps))
            total = sum(stretch.length for stretch in found)
            check_length("phases()", total, self._code.max_epochs, in_steps=found[0].in_steps)
            return found

    @contextmanager
    def training(self, stretch: Stretch) -> Iterator[Hooks]:
        """Have the model ready for a stretch, and give what is called in it."""
        steps, epochs = self.steps, self.epochs

        def before_step(step: int) -> None:
            with self._calling("before_step"):
                self._algorithm.before_step(steps + step)

        def after_step(step: int) -> None:
            self.steps = steps + step
            if self._has("after_step"):
                with self._calling("after_step"):
                    self._algorithm.after_step(self.steps)

        def after_epoch(epoch: int) -> None:
            self.epochs = epochs + epoch
            if self._has("after_epoch"):
                with self._calling("after_epoch"):
                    self._algorithm.after_epoch(self.epochs)

        with ExitStack() as stack:
            with self._checking():
                chosen = only(stretch.phase, self._workplace.items, self._workplace.tensors)
                beside = stack.enter_context(chosen)
            yield Hooks(
                self._loss if self._has("loss") else None,
                before_step if self._has("before_step") else None,
                after_step,
                after_epoch,
                beside,
                self._towards,
            )

    def end(self) -> None:
        """Let it end: what goes up is the model as it is then.

        Raises:
            TaskError: it fails, or has left the model with other tensors.
        """
        with self._calling("end"):
            self._algorithm.end()
        left = {item.name: item.tensor for item in model_tensors(self._workplace.model)}
        for name, (shape, dtype) in self._forms.items():
            found, item = left.get(name), self._workplace.items[name]
            is_there = found is not None and (found.shape, found.dtype) == (shape, dtype)
            if not is_there or (item.is_parameter and found is not item.tensor):  # models give themselves new buffers
                raise TaskError(
                    f"{self._who}: the model's {name!r} is gone, or another stands in its place: expected {dtype} of "
                    f"shape {tuple(shape)}, written to in place"
                )
        for name, (shape, dtype) in self._own_forms.items():
            tensor = self._workplace.tensors[name]
            if (tensor.shape, tensor.dtype) != (shape, dtype):
                raise TaskError(
                    f"{self._who}: the strategy's {name!r} is {tensor.dtype} of shape {tuple(tensor.shape)}: expected "
                    f"{dtype} of shape {tuple(shape)}, written to in place"
                )
        self._workplace.zero_pruned()

    def personalised(self) -> nn.Module:
        """Return the model that the client is measured by.

        Raises:
            TaskError: it fails, returns something else, or has changed the client's model.
        """
        return self._measured("personalised", "which has gone up")

    def _measured(self, hook: str, what: str) -> nn.Module:
        """Return what a hook gives to be measured in the place of the model, which it may not change."""
        if not self._has(hook):
            return self._workplace.model
        before = self._versions()
        with self._calling(hook):
            model: nn.Module = getattr(self._algorithm, hook)()
        if not isinstance(model, nn.Module):
            raise TaskError(f"{self._who}: {hook}() returned {kind(model)}, expected a torch.nn.Module")
        if self._versions() != before:
            raise TaskError(
                f"{self._who}: {hook}() has changed the model, {what}: expected one of its own, as of self.work.copy()"
            )
        return model

    def _versions(self) -> Sequence[int]:
        """Return how often every tensor of the model has been written to."""
        return [item.tensor._version for item in model_tensors(self._workplace.model)]

    def _loss(self, model: Model, batch: Any, loss_of: LossOf) -> Tensor:
        with self._naming("loss() failed"):
            loss = self._algorithm.loss(model, batch, loss_of)
        if not isinstance(loss, Tensor) or loss.dim():
            found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else kind(loss)
            raise TaskError(f"{self._who}: loss() returned {found}: expected a tensor of shape ()")
        return loss

    def _has(self, hook: str) -> bool:
        return getattr(self._code.algorithm, hook) is not getattr(LocalAlgorithm, hook)

    @property
    def _who(self) -> str:
        return f"client {self._client}: local algorithm {self._code.name}"

    @contextmanager
    def _calling(self, hook: str) -> Iterator[None]:
        """Let a hook change tensors in place, and name what it raises."""
        with self._naming(f"{hook}() failed"), torch.no_grad():
            yield

    @contextmanager
    def _naming(self, failure: str) -> Iterator[None]:
        with located(f"{self._who}: {failure}", self._code.file, TaskError):
            yield

    @contextmanager
    def _checking(self) -> Iterator[None]:
        try:
            yield
        except TaskError as error:
            raise TaskError(f"{self._who}: {error}") from None


def the_one(code: LocalCode | None, plan: pb.Plan) -> LocalCode | None:
    """Return the algorithm that a plan names; None: it names none.

    Raises:
        LocalAlgorithmError: it is not the one that is here.
    """
    if not plan.HasField("local"):
        return None
    if code is None or code.name != plan.local.name:
        here = "there is none" if code is None else f"it is {code.name!r}"
        raise LocalAlgorithmError(f"a plan names local algorithm {quoted(plan.local.name)}, and here {here}")
    return code
