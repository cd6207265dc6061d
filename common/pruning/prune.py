"""Global magnitude pruning: find the prunable weights, prune them step by step, rewind and keep the ticket.

Everything works in place, in the state that `torch.nn.utils.prune` defines, and masks only lose weights:
pruning 20 % twice prunes 36 % of the weights.
"""

import numbers
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from lotteryfl.common.pruning.magnitude import Weight, counts_pruned, masks_without_smallest
from lotteryfl.common.pruning.modeltensors import ModelTensor, model_tensors, zero_pruned
from lotteryfl.common.pruning.parameters import set_masks
from lotteryfl.common.pruning.prunable import Prunable, counted_tensors, is_prunable, prunable_tensors
from lotteryfl.common.pruning.state import refresh_all, settle, where_made
from lotteryfl.common.pruning.summary import PruneRow, PruneSummary
from lotteryfl.common.transfer import copy_into

Scope = Literal["global", "layer"]
"""`global`: one threshold over all prunable weights. `layer`: one for each tensor."""


def get_prune_params(model: nn.Module, prunable: Prunable = "matrices") -> tuple[list[tuple[nn.Module, str]], int]:
    """Find the weights that pruning works on.

    Args:
        model: any module, pruned or not; weights of the root and of nested modules of any type are found.
        prunable: which of them count, see `common.pruning.prunable.Prunable`.

    Returns:
        ([(module that owns the weight, its plain name there)], number of weights in all of them), in the
        order of the state dict. A tensor that modules share is listed once; one that is shared with an
        embedding or a norm is not among the matrices.

    Raises:
        ValueError: unknown `prunable`, or a lazy parameter has no shape yet.
    """
    found = prunable_tensors(model, prunable)
    return [item.owners[0] for item in found], sum(item.tensor.numel() for item in found)


def prune_fixed_amount(
    model: nn.Module,
    amount: float,
    verbose: bool = True,
    *,
    scope: Scope = "global",
    prunable: Prunable = "matrices",
) -> PruneSummary:
    """Prune the weights of smallest magnitude, in place and on top of what is pruned already.

    The masks are those of `torch.nn.utils.prune.global_unstructured` (scope `global`) or `l1_unstructured` on
    each tensor (scope `layer`) with L1, applied again and again. Magnitudes are those of NAME_orig × mask as
    they are now; weights that are pruned never compete. Where equal magnitudes straddle the threshold, the
    lowest flat index in the order of `get_prune_params` goes first. NaN counts as the largest magnitude.

    Masks are new tensors: one that a caller holds stays as it was. One that nobody holds is freed before the
    next tensor's is made, so that pruning again takes little more memory than the largest tensor.

    Args:
        model: any module; it ends in the pruned state in every prunable weight, also with amount 0.
        amount: a float in [0, 1] is a share of the weights that are **left**; an int is a number of weights.
            With scope `layer` both are meant for each tensor.
        verbose: print the summary.
        scope: see `Scope`.
        prunable: see `common.pruning.prunable.Prunable`.

    Returns:
        The summary after pruning.

    Raises:
        TypeError: amount is not a number.
        ValueError: amount is out of range or more than is left, nothing is prunable, or scope or prunable is
            unknown. Nothing has been changed then.
    """
    _check_amount(amount)
    found = prunable_tensors(model, prunable)
    if not found:
        raise ValueError(f"nothing to prune: {type(model).__name__} has no prunable weights ({prunable!r})")
    for item in found:
        item.check_can_prune()
    groups = _groups(found, scope)
    pruned = dict(zip(found, counts_pruned([item.mask for item in found]), strict=True))
    counts = [_count_to_prune(amount, group, pruned) for group in groups]  # all, before anything is changed
    with where_made(model):
        for group, count in zip(groups, counts, strict=True):
            weights = (Weight(item.tensor, item.mask, pruned[item]) for item in group)
            for item, mask in zip(group, masks_without_smallest(weights, count), strict=True):
                item.put_mask(mask)
        settle(model)
    summary = get_prune_summary(model, prunable)
    if verbose:
        print(summary)  # noqa: T201 - what verbose asks for
    return summary


def get_prune_summary(model: nn.Module, prunable: Prunable = "matrices") -> PruneSummary:
    """Count what is pruned, by the masks: a weight that happens to be 0 is not pruned.

    What was pruned and has been frozen since counts as it did.

    Args:
        model: any module, pruned or not.
        prunable: which of its weights count, see `common.pruning.prunable.Prunable`.

    Raises:
        ValueError: unknown `prunable`, or a lazy parameter has no shape yet.
    """
    found = counted_tensors(model, prunable)
    return PruneSummary(tuple(map(_row, found, counts_pruned([item.mask for item in found]))))


def density(model: nn.Module, prunable: Prunable = "matrices") -> float:
    """Return the kept share of the prunable weights, 0 ... 1.

    Args:
        model: any module, pruned or not.
        prunable: which of its weights count, see `common.pruning.prunable.Prunable`.

    Raises:
        ValueError: unknown `prunable`, or a lazy parameter has no shape yet.
    """
    return get_prune_summary(model, prunable).density


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Prune the model by exactly these masks; a parameter without one is plain again, with all its values.

    Args:
        model: any module, pruned or not.
        masks: plain parameter name → tensor of the weight's shape, 1 = kept, 0 = pruned; copied.

    Raises:
        ValueError: a name is not a parameter's, a shape differs, or a value is neither 0 nor 1. Nothing has
            been changed then.
    """
    for name, mask in masks.items():
        if mask.dtype is not torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(f"mask {name!r} has values other than 0 and 1")
    set_masks(model, masks)


def make_permanent(model: nn.Module) -> None:
    """Turn a pruned model into a plain one: each weight is the same Parameter, exactly 0 where it was pruned.

    Its state dict is that of the unpruned model, both ways strict. A plain model stays as it is.

    Args:
        model: any module, pruned or not; changed in place.
    """
    with where_made(model):
        for item in model_tensors(model):
            zero_pruned(item.tensor, item.mask)
            item.drop_mask()
        settle(model)


def make_plain(model: nn.Module) -> None:
    """Do what `make_permanent` does, and leave every bit of what is kept: also the sign of a 0."""
    with where_made(model), torch.no_grad():
        for item in model_tensors(model):
            if (mask := item.mask) is not None:
                item.tensor.masked_fill_(mask == 0, 0)
                item.drop_mask()
        settle(model)


def rewind(model: nn.Module, initial: Mapping[str, Tensor], *, everything: bool = False) -> None:
    """Take the kept weights back to their initial values, pruned ones to exactly 0 (Frankle and Carbin 2019).

    Args:
        model: any module. Rewound are the parameters that carry a mask and the prunable matrices.
        initial: plain name → value before training (θ_0); may hold more of the model's tensors. Copied.
        everything: rewind all parameters, biases and norms too.

    Raises:
        ValueError: a name is missing or not one of the model's, a shape or kind of dtype differs, or a value is not
            a copy but the model's own memory, as in a `state_dict()`. Nothing has been changed then.
    """
    found = model_tensors(model)
    if unknown := sorted(initial.keys() - {item.name for item in found}):
        raise ValueError(f"initial values for {unknown[0]!r}: the model has no tensor of this name")
    chosen = [
        item
        for item in found
        if item.is_parameter and (everything or item.mask is not None or is_prunable(item, "matrices"))
    ]
    for item in chosen:
        if item.name not in initial:
            raise ValueError(f"initial values lack {item.name!r}")
        item.check_fits(initial[item.name])
        if item.shares_memory(initial[item.name]):
            raise ValueError(
                f"initial value of {item.name!r} is the model's own memory and has changed with it: expected a copy "
                "made before training, as {name: tensor.clone() for name, tensor in model.state_dict().items()}"
            )
    with where_made(model), torch.no_grad():
        copy_into({item.name: item.tensor for item in chosen}, initial)
        for item in chosen:
            zero_pruned(item.tensor, item.mask)
        refresh_all(model)


@contextmanager
def trainable_ticket(model: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Make the model plain for training: no products, no hooks, so nothing is stale and a step costs no more.

    Inside, every pruned weight is a plain Parameter (the object that is NAME_orig outside) and 0 where it is
    pruned. Whoever trains multiplies its gradient by the mask before each optimizer step: with a fresh
    optimizer momentum, moments and weight decay then never see a pruned weight, and it stays exactly 0.

    Yields:
        (parameter, mask) of each pruned weight. On leaving, also by an exception, the masks are back.
    """
    pruned = [(item, item.mask) for item in model_tensors(model) if item.mask is not None]
    for item, mask in pruned:
        zero_pruned(item.tensor, mask)
        item.drop_mask()
    settle(model)
    try:
        yield [(item.tensor, mask) for item, mask in pruned]
    finally:
        for item, mask in pruned:
            zero_pruned(item.tensor, mask)  # a diverged gradient times 0 is NaN
            item.put_mask(mask)
        settle(model)


def _groups(found: list[ModelTensor], scope: Scope) -> list[list[ModelTensor]]:
    """Group the tensors that compete with each other."""
    if scope == "global":
        return [found]
    if scope == "layer":
        return [[item] for item in found]
    raise ValueError(f"scope={scope!r}: expected 'global' or 'layer'")


def _check_amount(amount: float) -> None:
    if isinstance(amount, bool) or not isinstance(amount, numbers.Real):
        raise TypeError(f"amount={amount!r}: expected an int or a float, not {type(amount).__name__}")
    in_range = amount >= 0 if isinstance(amount, numbers.Integral) else 0 <= amount <= 1
    if not in_range:
        raise ValueError(f"amount={amount}: expected a float in [0, 1] or an int that is not negative")


def _count_to_prune(amount: float, group: Sequence[ModelTensor], pruned: Mapping[ModelTensor, int]) -> int:
    """Return how many more weights of the group have to go."""
    left = sum(item.tensor.numel() - pruned[item] for item in group)
    if not isinstance(amount, numbers.Integral):
        return round(amount * left)
    if amount > left:
        where = f" in {group[0].name!r}" if len(group) == 1 else ""
        raise ValueError(f"amount={amount}: only {left} weights are left to prune{where}")
    return int(amount)


def _row(item: ModelTensor, pruned: int) -> PruneRow:
    module, weight_name = item.owners[0]
    return PruneRow(str(module), item.name, weight_name, total=item.tensor.numel(), pruned=pruned)
