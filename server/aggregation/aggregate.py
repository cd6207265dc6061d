"""The walk over a model that all rules share: tensor by tensor, block by block, in client order."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lotteryfl.common.experiment.settings import AggregationSettings
from lotteryfl.common.packedmasks import Indices
from lotteryfl.common.wire.payload import DENSE
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.server.aggregation.mean import MeanWithZeros, WeightedMean
from lotteryfl.server.aggregation.robust import Median, TrimmedMean
from lotteryfl.server.aggregation.rules import Rule
from lotteryfl.server.aggregation.strategyvalues import StrategyValues, Sum, as_put_together, key_of
from lotteryfl.server.aggregation.update import Array, Update, Values, array, elements

_MEAN = AggregationSettings()

_MOST_EARLY = 1 << 20
"""Bytes that may wait for their turn."""


@dataclass(frozen=True)
class Combination:
    """What is put together how, beside the experiment's rule."""

    personal: Collection[str] = ()
    """Tensors that are each client's own: the global model keeps its old ones."""
    counts_zeros: bool = False
    """Pruned weights count as zeros; otherwise they do not count. A strategy's own tensors say for themselves."""
    stays_wide: bool = False
    """Floating-point tensors are yielded in float64, for more to be done before they are rounded to their own dtype."""
    as_in_file: bool = False
    """Tensors are yielded in the order of their file, where few bytes then come before their turn by name."""


_ALL = Combination()


def aggregate(
    table: TensorTable,
    old: Mapping[str, Tensor],
    updates: Sequence[Update],
    settings: AggregationSettings = _MEAN,
    combination: Combination = _ALL,
) -> Iterator[tuple[str, Tensor]]:
    """Yield the new global model in table order, one tensor at a time.

    Every element is what the rule makes of the values of the clients whose mask keeps it (and kept it before, where
    `Update.before` says so), and the old global value where none does, if `combination` does not say otherwise. With
    the rule `mean` it is their mean, weighted by their examples (Li et al. 2020, "LotteryFL: Empower Edge Intelligence
    with Personalized and Communication-Efficient Federated Learning", the server's aggregation) or as `Update.weight`
    says; `median` and `trimmed_mean` are those of `server.aggregation.robust`. Dense parameters and floating-point
    buffers are thus put together from all clients.
    An integer or bool buffer is, under every rule, that of the client with most examples; among equals, of the lowest
    client number.

    Of a strategy's own tensors, `mean` is as of a dense parameter, with zeros off the mask that one travels under;
    `kept` is as of a weight. Both go by the rule. `sum` adds up, and of a bool one all clients count alike: either is
    the same under every rule. What only some clients sent is put together from theirs, and left out where none did;
    what never comes back stays as it is.

    Clients are taken in ascending order, and summed in a wider type, whatever the order of `updates`: the same
    updates give the same bits. Clients that agree on an element give exactly their value, for any weights.

    Args:
        table: of the model and its strategy.
        old: the global model that the clients started from, by name, on the CPU; of what only comes up, its `fill`.
        updates: at least one, one per client.
        settings: the rule, and whether the mean is weighted by examples.
        combination: what else goes by the strategy.

    Raises:
        ValueError: no updates, two of one client, or one with less than one example.
    """
    if not updates:
        raise ValueError("no updates: there is nothing to aggregate")
    ordered = sorted(updates, key=lambda update: update.client)
    for index, update in enumerate(ordered):
        if update.examples < 1:
            raise ValueError(f"client {update.client}: {update.examples} examples, expected at least 1")
        if index and update.client == ordered[index - 1].client:
            raise ValueError(f"client {update.client}: has two updates, expected one")
    return _walk(table, old, ordered, settings, combination)


def _walk(
    table: TensorTable,
    old: Mapping[str, Tensor],
    updates: Sequence[Update],
    settings: AggregationSettings,
    combination: Combination,
) -> Iterator[tuple[str, Tensor]]:
    largest = max(updates, key=lambda update: update.examples)  # the first of equals
    dtypes = {spec.dtype for spec in table if spec.dtype.is_floating_point}
    rules = {dtype: _create_rule(settings, dtype, updates, combination) for dtype in dtypes}
    rule_of_strategy = cache(partial(_create_rule_of_strategy, settings, updates))
    if settings.weighting == "equal":
        updates = [replace(update, examples=1) for update in updates]
    for spec in _as_in_file(table) if combination.as_in_file else table:
        if spec.name in combination.personal or spec.role == "own" or spec.combine == "none":
            yield spec.name, old[spec.name].clone()
        elif spec.is_added:
            if senders := [update for update in updates if key_of(spec, update) in update.entries]:
                dtype = as_put_together(spec).dtype
                sources = [(StrategyValues(spec, each), 1 if spec.is_bits else each.counts) for each in senders]
                rule = rule_of_strategy(dtype, is_sum=spec.combine == "sum", is_share=spec.is_bits)
                yield spec.name, _put_together(old[spec.name].to(dtype), sources, rule, dtype)
        elif spec.dtype.is_floating_point:
            dtype = torch.float64 if combination.stays_wide else spec.dtype
            values = [(Values(spec.name, update), update.counts) for update in updates]
            yield spec.name, _put_together(old[spec.name], values, rules[spec.dtype], dtype)
        else:
            yield spec.name, elements(largest.entries, DENSE + spec.name).clone().view(spec.shape)


def _as_in_file(table: TensorTable) -> Iterable[TensorSpec]:
    least = min(spec.dtype.itemsize for spec in table)
    early = sum(spec.nbytes for spec in table if spec.dtype.itemsize > least)
    return sorted(table, key=lambda spec: -spec.dtype.itemsize) if early <= _MOST_EARLY else table


def _create_rule(
    settings: AggregationSettings, dtype: torch.dtype, updates: Sequence[Update], combination: Combination
) -> Rule:
    wide = any(update.scale != 1 for update in updates)  # these are wider than they were sent
    if settings.rule == "median":
        return Median(dtype, len(updates), wide=wide)
    if settings.rule == "trimmed_mean":
        return TrimmedMean(dtype, len(updates), settings.trim, wide=wide)
    return MeanWithZeros(dtype) if combination.counts_zeros else WeightedMean(dtype)


class _Source(Protocol):
    """One client's values of one tensor."""

    def take(self, start: int, old: Array) -> tuple[Indices | None, Array]:
        """Return where there are values in a block (None: everywhere), and the values."""


def _create_rule_of_strategy(
    settings: AggregationSettings, updates: Sequence[Update], dtype: torch.dtype, *, is_sum: bool, is_share: bool
) -> Rule:
    return Sum(dtype) if is_sum else _create_rule(_MEAN if is_share else settings, dtype, updates, _ALL)


def _put_together(old: Tensor, sources: Sequence[tuple[_Source, float]], rule: Rule, dtype: torch.dtype) -> Tensor:
    """Return what a rule makes of the clients' values, each with its weight."""
    new = torch.empty_like(old, dtype=dtype, memory_format=torch.contiguous_format)
    old_flat, new_flat = old.detach().reshape(-1), new.view(-1)
    for start in range(0, old.numel(), rule.block):
        old_block = array(old_flat[start : start + rule.block])
        rule.start(len(old_block))
        for source, weight in sources:
            rule.add(*source.take(start, old_block), weight)
        _write(new_flat[start : start + rule.block], rule, old_block)
    return new


def _write(block: Tensor, rule: Rule, old: Array) -> None:
    if block.dtype is torch.bfloat16:  # which numpy does not know
        wide = np.empty(len(block))
        rule.write(old, wide)
        block.copy_(torch.from_numpy(wide))
    else:
        rule.write(old, block.numpy())
