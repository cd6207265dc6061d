"""Whether a client did with its mask what it was told to, and was told what its strategy declares."""

import math
from collections.abc import Mapping

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError, PayloadError
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.step import weights_to_prune
from lotteryfl.common.training.score import ACCURACY, Score
from lotteryfl.common.wire.clientmetrics import is_good_enough, score_of
from lotteryfl.common.wire.maskrule import RULES, rule_of
from lotteryfl.common.wire.payload import mask_density
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import Strategy

_ROUNDING = 1e-9
"""By how much densities may differ that were divided in two places."""


def check_plan(
    table: TensorTable,
    plan: pb.Plan,
    before: Masks,
    after: Masks,
    metrics: pb.ClientMetrics,
    score: Score = ACCURACY,
) -> None:
    """Check a result's mask against the plan of its assignment, and its density against its mask.

    Args:
        table: of the model.
        plan: of the assignment.
        before: the masks that the client started from.
        after: those it sent, subsets of `before` unless they come whole by the plan's rule.
        metrics: what it says of its work; checked by `check_metrics`.
        score: what the run is judged by.

    Raises:
        PayloadError: the mask changed and the plan does not say so, or lost more than the plan allows.
    """
    density = mask_density(table, after)
    if not math.isclose(metrics.density, density, rel_tol=0, abs_tol=_ROUNDING):
        raise PayloadError(f"metrics.density = {metrics.density}: the mask sent has {density}")
    kept_before, kept_after = kept_weights(table, before), kept_weights(table, after)
    if plan.HasField("free_mask"):
        _check_free(plan.free_mask, _total(table), sum(kept_after.values()))
    elif plan.HasField("select"):
        _check_selection(table, plan.select, kept_before, kept_after)
    elif plan.HasField("prune"):
        _check_pruning(table, plan.prune, kept_before, kept_after, metrics, score)
    elif before.keys() != after.keys() or kept_before != kept_after:
        # A subset that keeps as much as before is the mask of before.
        raise PayloadError("its mask has changed, but its plan does not prune")
    elif plan.HasField("readjust"):
        _check_exchange(plan.readjust, before, after)


def check_rule(strategy: Strategy, round_: int, client: int, plan: pb.Plan) -> None:
    """Check that a plan keeps to the mask rule that its strategy declares.

    Args:
        strategy: whose plan it is.
        round_: of the plan.
        client: whose work it is.
        plan: not yet written down.

    Raises:
        ExperimentError: it lets the mask change by another rule.
    """
    if plan.HasField("readjust") and (plan.HasField("prune") or plan.HasField("select")):
        raise ExperimentError(
            f"strategy.name = {strategy.name!r}: client {client}'s plan for round {round_} exchanges weights "
            "(readjust), and prunes or selects too: expected one of them"
        )
    if RULES.index(rule := rule_of(plan)) > RULES.index(strategy.mask_rule):
        raise ExperimentError(
            f"strategy.name = {strategy.name!r}: client {client}'s plan for round {round_} has the mask rule {rule!r}, "
            f"expected {strategy.mask_rule!r} as the strategy declares"
        )


def kept_weights(table: TensorTable, masks: Masks) -> dict[str, int]:
    """Return by name of the prunable tensors how many weights are kept."""
    prunable = (spec for spec in table if spec.prunable)
    return {s.name: packedmasks.count(masks[s.name]) if s.name in masks else s.numel for s in prunable}


def _total(table: TensorTable) -> int:
    return sum(spec.numel for spec in table if spec.prunable)


def _check_pruning(
    table: TensorTable,
    prune: pb.Plan.Prune,
    before: Mapping[str, int],
    after: Mapping[str, int],
    metrics: pb.ClientMetrics,
    score: Score,
) -> None:
    left, lost = sum(before.values()), sum(before.values()) - sum(after.values())
    # Where the masks of two epochs have to differ first, nothing was judged if they did not.
    if not metrics.HasField("validation") and (lost or not prune.min_mask_change):
        raise PayloadError("metrics.validation: missing, and on it depends what its plan prunes")
    if lost and not is_good_enough(prune, metrics.validation, score):
        beyond = "below" if score.higher_is_better else "above"
        raise PayloadError(
            f"it lost {lost} weights with a validation {score.name} of {score_of(metrics.validation, score)}, "
            f"expected none {beyond} {prune.score_threshold if score.own else prune.accuracy_threshold}"
        )
    most = weights_to_prune(prune, _total(table), left)
    if prune.scope == pb.Plan.GLOBAL:
        if lost > most:
            raise PayloadError(f"it lost {lost} of {left} weights, expected at most {most} in one step of its plan")
        return
    for name, kept in before.items():
        rounding = table[name].numel // (table[name].shape or (1,))[0] if prune.scope == pb.Plan.ROWS else 1
        share = round(most / left * kept) + rounding if most else 0  # every tensor rounds by itself
        if kept - after[name] > share:
            raise PayloadError(
                f"{name}: lost {kept - after[name]} of {kept} weights, expected at most {share} in one step of its plan"
            )


def _check_free(free: pb.Plan.FreeMask, total: int, kept: int) -> None:
    if free.density and kept > (most := round(free.density * total)):
        raise PayloadError(f"its mask keeps {kept} of {total} weights, expected at most {most} by its plan")


def _check_exchange(readjust: pb.Plan.Readjust, before: Masks, after: Masks) -> None:
    for name, packed in before.items():
        kept, new = packedmasks.count(packed), packedmasks.count(after[name] & ~packed)
        if new > (most := round(readjust.rate * kept)):
            raise PayloadError(f"{name}: {new} of {kept} weights were exchanged, expected at most {most} by its plan")


def _check_selection(
    table: TensorTable, select: pb.Plan.Select, before: Mapping[str, int], after: Mapping[str, int]
) -> None:
    total = _total(table)
    taken, owned = sum(before.values()) - sum(after.values()), total - sum(after.values())
    if taken > round(select.rate * total) or (taken and owned > round(select.limit * total)):
        raise PayloadError(
            f"it made {taken} of {total} weights its own and has {owned} now, expected at most "
            f"{round(select.rate * total)} in one step and {round(select.limit * total)} in all"
        )
