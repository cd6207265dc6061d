"""DP-SGD: local training in which no example counts for much (Abadi et al. 2016, "Deep Learning with Differential
Privacy", Algorithm 1). Opacus finds every example's gradient and bounds it; the noise is `common.noise`'s."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lotteryfl.common.errors import TaskError
from lotteryfl.common.noise import Source, gaussian, uniform
from lotteryfl.common.pruning.pruned import Pruned
from lotteryfl.common.training.augmentation import Augmentation
from lotteryfl.common.training.examples import Examples
from lotteryfl.common.training.given import Data
from lotteryfl.common.training.loop import OnEpoch, OnStep, TrainResult, prepared, require_gradients, training_objective
from lotteryfl.common.training.objective import Objective, batch_loss, require_mean
from lotteryfl.common.training.recipe import Recipe
from lotteryfl.common.transfer import sent


@dataclass(frozen=True)
class ExamplePrivacy:
    """What is done to every example's gradient."""

    max_grad_norm: float
    """Bound of its L2 norm over all that is trained."""
    noise_multiplier: float
    """Standard deviation of the noise in the sum of a step's gradients, in units of the bound."""
    source: Source = os.urandom
    """Random bytes, from which batches and noise come; all but tests leave it to the operating system."""


def train_privately(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    privacy: ExamplePrivacy,
    *,
    device: torch.device | str = "cpu",
    objective: Objective | None = None,
    pruned: Sequence[Pruned] | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainResult:
    """Train as `common.training.loop.train_by_recipe` does, by DP-SGD; two trainings are never alike.

    An epoch has as many steps as otherwise. Each is on a batch of its own, in which every example is with
    probability batch_size / examples (Poisson sampling, as accountants take it), and which may be empty; the sum of
    the gradients is divided by batch_size. What is pruned is taken out of an example's gradient before its norm is
    taken, and uses up nothing of the bound. Momentum, weight decay and the proximal term come after the noise.

    Args:
        model: as for `train`.
        data: as for `train`.
        recipe: for how long, by which steps; its batch size is the mean number of examples in a step, or all, where
            there are fewer. Its seed is of dropout alone.
        privacy: bound and noise.
        device: where to train.
        objective: its loss, which must be a mean over examples; None: cross-entropy.
        pruned: as for `train_by_recipe`.
        on_step: called after every step; its loss has no noise.
        on_epoch: called after every epoch.

    Raises:
        TypeError: the data set has no length.
        ValueError: as `train`, or, as an `OutputError`, the objective's loss is no mean over examples.
        TaskError: the data are a stream, of which no example is drawn by chance, Opacus is not installed, or one
            example has no gradient of its own in this model, as with batch norm.
    """
    settings = recipe.settings
    objective = training_objective(settings, objective)
    for option, value in (("epochs", recipe.epochs or recipe.steps), ("batch_size", settings.batch_size)):
        if value < 1:
            raise ValueError(f"{option}={value}: expected at least 1")
    require_gradients(model)
    device = torch.device(device)
    examples = _drawable(data, device, objective)
    expected = min(settings.batch_size, len(examples))
    steps_of_epoch = settings.batches_of(len(examples))
    augmented = Augmentation(settings.augment, None, recipe.seed, device)
    done, last, epoch = 0, recipe.total_steps(steps_of_epoch), 0
    with prepared(model, recipe, device, steps_of_epoch, pruned) as steps:
        deviation = privacy.noise_multiplier * privacy.max_grad_norm / expected
        with _by_example(model, steps.optimizer, privacy.max_grad_norm, expected) as optim:
            while done < last:
                epoch += 1
                total, seen = torch.zeros((), device=device), 0
                batches = _poisson_batches(len(examples), expected, steps_of_epoch, privacy.source)
                for batch in islice(batches, last - done):
                    optim.zero_grad()
                    loss = _backward(model, examples, batch, objective, augmented)
                    for each in steps.pruned:
                        if each.tensor.requires_grad:
                            each.tensor.grad_sample.mul_(each.mask)  # type: ignore[attr-defined]
                    optim.pre_step()  # bounds, sums, divides: now there are gradients
                    if deviation:
                        _add_noise((each.grad for each in optim.params), deviation, privacy.source)
                    steps.take()
                    done += 1
                    total, seen = total + loss * len(batch), seen + len(batch)
                    if on_step is not None:
                        on_step(epoch, done, loss)
                if on_epoch is not None:
                    with steps.averaged():
                        on_epoch(epoch)
            optim.zero_grad()
    return TrainResult(float(total) / max(seen, 1), len(examples), done)


def _drawable(data: Data, device: torch.device, objective: Objective) -> Examples:
    """Return the examples, if each can be drawn by itself and has a loss of its own."""
    require_mean(objective, "privacy.dp_sgd")
    examples = Examples(data, device, objective)
    if examples.is_stream:
        raise TaskError("privacy.dp_sgd: draws examples by chance, and the data are a stream: expected a map-style set")
    return examples


def _poisson_batches(examples: int, expected: int, count: int, source: Source) -> Iterator[Tensor]:
    """Yield the indices, int64, of an epoch's batches."""
    for _ in range(count):
        yield (uniform(examples, source) < expected / examples).nonzero().flatten()


def _backward(
    model: nn.Module, examples: Examples, batch: Tensor, objective: Objective, augmented: Augmentation
) -> Tensor:
    """Find the gradient of every example of a batch, into `grad_sample` of the parameters; return the mean loss.

    It is 0 by what the loss does not depend on, as a layer that no example went through: that has noise like all else.
    """
    parameters: list[Any] = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = torch.zeros((), device=parameters[0].device)
    if len(batch):
        ((content, _),) = augmented.of(examples.batches(batch, len(batch)))
        loss = batch_loss(objective, model, content)
        loss.backward()  # type: ignore[no-untyped-call]
    for parameter in parameters:
        if getattr(parameter, "grad_sample", None) is None:
            parameter.grad_sample = parameter.new_zeros((len(batch), *parameter.shape))
    return loss.detach()


def _add_noise(gradients: Iterable[Tensor], deviation: float, source: Source) -> None:
    """Add noise to what a step goes by: of no generator, whose seed would give all of it away.

    It is drawn on the CPU, whatever the device, and added in float64: on CUDA, which has it, else on the CPU too.
    """
    for gradient in gradients:
        noise = gaussian(gradient.numel(), deviation, source).view(gradient.shape)
        noise = sent(noise, gradient.device if gradient.device.type == "cuda" else noise.device)
        gradient.copy_(noise.add_(gradient.to(noise.device)).to(gradient.dtype))


@contextmanager
def _by_example(model: nn.Module, optimizer: Optimizer, max_grad_norm: float, expected: int) -> Iterator[Any]:
    """Let a backward find the gradient of every example; yields Opacus's optimizer, which adds no noise."""
    try:
        from opacus.grad_sample import GradSampleHooks
        from opacus.optimizers import DPOptimizer
        from opacus.validators import ModuleValidator
    except ImportError as error:
        raise TaskError("privacy.dp_sgd: Opacus is not installed here: pip install 'lotteryfl[privacy]'") from error
    if errors := ModuleValidator.validate(model, strict=False):
        reason = str(errors[0]).strip().partition("\n")[0]
        raise TaskError(f"privacy.dp_sgd: no example has a gradient of its own in the task's model: {reason}")
    hooks = GradSampleHooks(model)
    optimizer = DPOptimizer(optimizer, noise_multiplier=0.0, max_grad_norm=max_grad_norm, expected_batch_size=expected)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Full backward hook is firing")  # of the first layer, in every training
            yield optimizer
    finally:
        hooks.cleanup()
