"""Train a model by an objective; in a pruned one the pruned entries are exactly 0 throughout."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.pruning.pruned import Pruned, plain_weights
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.seeding import seeded
from lotteryfl.common.training.augmentation import Augmentation, OwnAugment
from lotteryfl.common.training.evaluation import mode, weighted_mean
from lotteryfl.common.training.examples import Batch, Examples
from lotteryfl.common.training.given import Data
from lotteryfl.common.training.hooks import NONE, Hooks, LossOf
from lotteryfl.common.training.objective import Labelled, Loss, Objective, batch_loss, chosen
from lotteryfl.common.training.precision import autocast, weights_in_format
from lotteryfl.common.training.recipe import Recipe, TrainingSettings, settings_of
from lotteryfl.common.training.steps import Steps, check_recipe

OnStep = Callable[[int, int, Tensor], None]
"""(epoch from 1, step from 1 over all epochs, loss of the step, not yet fetched from the device)."""


OnEpoch = Callable[[int], None]
"""(epoch from 1)."""

_KEYWORDS = {
    "epochs": None,
    "lr": None,
    "batch_size": 32,
    "optimizer": "sgd",
    "momentum": 0.0,
    "weight_decay": 0.0,
}
"""What `train` is given where nothing is said; a recipe says all of it."""


@dataclass(frozen=True)
class TrainResult:
    """What a training did."""

    loss: float
    """Mean over the examples in the last epoch."""
    examples: int
    """Size of the training data."""
    steps: int
    """Optimizer steps over all epochs."""


def train(
    model: nn.Module,
    data: Data,
    *,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int = 32,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    recipe: TrainingSettings | Mapping[str, Any] | None = None,
    proximal: float = 0.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    loss: Loss = F.cross_entropy,
    objective: Objective | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainResult:
    """Train a model in place, with a fresh optimizer; what is pruned stays exactly 0.

    Shuffling, dropout, and what a data set draws from the global generators of `random`, NumPy and torch derive from
    `seed` alone, and the generators are left as they were. In a model with batch norm a last batch of one example
    joins the batch before it: alone it has no variance.

    Args:
        model: what the objective takes, without one from inputs to logits; moved to `device`. Train mode is set and
            the modes found are restored.
        data: see `common.training.given.Data`; tensors are moved to the device once and indexed in bulk.
        epochs: passes over the data.
        lr: learning rate.
        batch_size: examples in a step.
        optimizer: "sgd", "adam", "adamw", or a class of `torch.optim` by its name.
        momentum: of sgd.
        weight_decay: of the optimizer.
        recipe: in the place of all these keywords, what an experiment's `[training]` is: `experiment.training`, or a
            dict of its keys. A schedule over rounds it cannot have, as there are none.
        proximal: μ of the term μ/2 ‖w − w_start‖² that is added to the loss (Li et al. 2020, "FedProx", section 3.2).
        seed: any int.
        device: where to train.
        loss: of a classifier, see `Loss`.
        objective: what is learned in place of classification.
        on_step: called after every step; cancel the training by raising from it.
        on_epoch: called after every epoch; the weights are plain then, see `common.pruning.prune.trainable_ticket`.

    Raises:
        TypeError: the data set has no length, or is none.
        ValueError: no data, inputs and labels of unequal lengths, nothing to train, gradients are off, an option is
            wrong, or, as an `OutputError`, outputs, batches and objective do not go together.
        ExperimentError: the recipe is wrong, or stands beside a keyword that says the same.
    """
    keywords: dict[str, Any] = {
        "batch_size": batch_size,
        "optimizer": optimizer,
        "momentum": momentum,
        "weight_decay": weight_decay,
    }
    if recipe is not None:
        given = [name for name, value in {**keywords, "epochs": epochs, "lr": lr}.items() if value != _KEYWORDS[name]]
        settings = settings_of(recipe, given)
        check_recipe(settings, model, torch.device(device))
    elif epochs is None or lr is None:
        raise ValueError("epochs and lr: expected both, or a recipe")
    else:
        # Not validated: what is wrong is said in a function's words where it is used, not in those of an experiment.
        settings = TrainingSettings.model_construct(epochs=epochs, lr=lr, **keywords)
    by_default = objective is None and loss is F.cross_entropy
    return train_by_recipe(
        model,
        data,
        Recipe(settings, settings.epochs, proximal, seed, settings.steps),
        device=device,
        objective=None if by_default else chosen(objective, loss),
        on_step=on_step,
        on_epoch=on_epoch,
    )


def train_by_recipe(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    device: torch.device | str = "cpu",
    objective: Objective | None = None,
    pruned: Sequence[Pruned] | None = None,
    augment: OwnAugment | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    hooks: Hooks = NONE,
) -> TrainResult:
    """Train as `train` does, by a recipe instead of keywords.

    Args:
        model: as for `train`.
        data: as for `train`.
        recipe: for how long, by which steps, from which seed.
        device: where to train.
        objective: what is learned; None: classification by cross-entropy.
        pruned: the model's pruned weights, if it is plain; None: it may be in the pruned state.
        augment: the task's, done to every batch after what the recipe says.
        on_step: called after every step; cancel the training by raising from it.
        on_epoch: called after every epoch; the weights are plain then, see `common.pruning.prune.trainable_ticket`.
        hooks: code of the worker's own.

    Raises:
        TypeError: the data set has no length.
        ValueError: as `train`.
    """
    settings = recipe.settings
    if recipe.epochs < 1 and not recipe.steps:
        raise ValueError(f"epochs={recipe.epochs}: expected at least 1")
    require_gradients(model)
    objective = training_objective(settings, objective)
    device = torch.device(device)
    examples = Examples(data, device, objective)
    has_batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    short = settings.short(has_batch_norm=has_batch_norm)
    steps_of_epoch = ceil(examples.batch_count(settings.batch_size, short) / settings.accumulate)
    shuffler = torch.Generator().manual_seed(derive_seed(recipe.seed, "shuffle"))
    augmented = Augmentation(settings.augment, augment, recipe.seed, device)
    cast, loss_of = autocast(settings, device), _loss_of(objective, hooks)
    done, total, epoch = 0, recipe.total_steps(steps_of_epoch), 0
    with prepared(model, recipe, device, steps_of_epoch, pruned, hooks) as steps:
        while done < total:
            epoch += 1
            losses: list[Tensor] = []
            sizes: list[int] = []
            batches = augmented.of(examples.shuffled(shuffler, settings.batch_size, short))
            while done < total and (group := list(islice(batches, settings.accumulate))):
                size = sum([batch.size for batch in group])
                losses.append(_gradients(steps, group, size, loss_of, cast))
                sizes.append(size)
                if hooks.before_step is not None:
                    hooks.before_step(done + 1)
                steps.take()
                done += 1
                if hooks.after_step is not None:
                    hooks.after_step(done)
                if on_step is not None:
                    on_step(epoch, done, losses[-1])
            if hooks.after_epoch is not None:
                hooks.after_epoch(epoch)
            if on_epoch is not None:
                with steps.averaged():
                    on_epoch(epoch)
    return TrainResult(weighted_mean(losses, sizes), sum(sizes) if examples.is_stream else len(examples), done)


def _loss_of(objective: Objective, hooks: Hooks) -> LossOf:
    own, given = partial(batch_loss, objective), hooks.loss
    return own if given is None else lambda model, batch: given(model, batch, own)


def _gradients(
    steps: Steps, batches: Sequence[Batch], size: int, loss_of: LossOf, cast: AbstractContextManager[Any]
) -> Tensor:
    """Find the gradients of the mean loss over the `size` examples of some batches, in turn; return that loss."""
    steps.optimizer.zero_grad()
    shares = []
    for batch in batches:
        with cast:
            share = loss_of(steps.model, batch.content)
        if len(batches) > 1:
            share = share * (batch.size / size)
        share.backward()  # type: ignore[no-untyped-call]
        shares.append(share.detach())
    return shares[0] if len(shares) == 1 else torch.stack(shares).sum()


@contextmanager
def prepared(
    model: nn.Module,
    recipe: Recipe,
    device: torch.device,
    steps_of_epoch: int,
    pruned: Sequence[Pruned] | None,
    hooks: Hooks = NONE,
) -> Iterator[Steps]:
    """Have a model on its device ready for a recipe's steps: in train mode, pruned weights plain, dropout seeded."""
    model.to(device)
    with (
        mode(model, training=True),
        seeded(derive_seed(recipe.seed, "dropout"), device),
        plain_weights(model, pruned) as plain,
        weights_in_format(model, recipe.settings),
    ):
        steps = Steps(model, recipe, plain, steps_of_epoch, hooks)
        yield steps
        steps.end()


def training_objective(settings: TrainingSettings, objective: Objective | None) -> Objective:
    """Return an objective as the settings want it trained by; None: classification by cross-entropy.

    Raises:
        ValueError: labels are to be smoothed, and it is not the cross-entropy of classes.
    """
    if not settings.label_smoothing:
        return objective or Labelled()
    if objective is not None:
        raise ValueError(
            f"training.label_smoothing = {settings.label_smoothing:g}: this training has a loss of its own: expected 0"
        )
    return Labelled(partial(F.cross_entropy, label_smoothing=settings.label_smoothing))


def require_gradients(model: nn.Module) -> None:
    """Check that the model can learn here.

    Raises:
        ValueError: gradients are off, or the model was made where they can never be had.
    """
    if not torch.is_grad_enabled():
        raise ValueError("gradients are off inside torch.no_grad() and torch.inference_mode(): train outside of it")
    for name, parameter in model.named_parameters():
        if parameter.is_inference():
            raise ValueError(f"{name!r} was made inside torch.inference_mode() and cannot learn: make it outside")
