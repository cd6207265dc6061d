"""Whether a client did with its mask what it was told to."""

import math
from collections.abc import Mapping

from common import masks as packed_masks
from common.errors import PayloadError
from common.pruningplan import weights_to_prune
from common.tensortable import TensorTable
from protos import lotteryfl_pb2 as pb
from server.rundir import Masks

_ROUNDING = 1e-9
"""Of a density that was divided elsewhere."""


def check_plan(table: TensorTable, plan: pb.Plan, before: Masks, after: Masks, metrics: pb.ClientMetrics) -> None:
    """Check a result's mask against the plan of its assignment, and its density against its mask.

    Args:
        table: of the model.
        plan: of the assignment.
        before: the masks that the client started from.
        after: those it sent, subsets of `before`.
        metrics: what it says of its work; checked by `check_metrics`.

    Raises:
        PayloadError: the mask changed and the plan does not say so, or lost more than the plan allows.
    """
    density = density_of(kept_weights(table, after), table)
    if not math.isclose(metrics.density, density, rel_tol=0, abs_tol=_ROUNDING):
        raise PayloadError(f"metrics.density = {metrics.density}: the mask sent has {density}")
    if not plan.HasField("prune"):
        # What keeps as much as before, and nothing else, is the mask of before.
        if before.keys() != after.keys() or kept_weights(table, before) != kept_weights(table, after):
            raise PayloadError("its mask has changed, but its plan does not prune")
        return
    if not metrics.HasField("validation"):
        raise PayloadError("metrics.validation: missing, and on it depends what its plan prunes")
    _check_pruning(table, plan.prune, kept_weights(table, before), kept_weights(table, after), metrics)


def kept_weights(table: TensorTable, masks: Masks) -> dict[str, int]:
    """Return by name of the prunable tensors how many weights are kept."""
    prunable = (spec for spec in table if spec.prunable)
    return {s.name: packed_masks.count(masks[s.name]) if s.name in masks else s.numel for s in prunable}


def density_of(kept: Mapping[str, int], table: TensorTable) -> float:
    """Return the kept share of the prunable weights; of a model without any, 1."""
    return sum(kept.values()) / _total(table) if kept else 1.0


def _total(table: TensorTable) -> int:
    return sum(spec.numel for spec in table if spec.prunable)


def _check_pruning(
    table: TensorTable,
    prune: pb.Plan.Prune,
    before: Mapping[str, int],
    after: Mapping[str, int],
    metrics: pb.ClientMetrics,
) -> None:
    left, lost = sum(before.values()), sum(before.values()) - sum(after.values())
    accuracy = metrics.validation.accuracy
    if lost and accuracy < prune.accuracy_threshold:
        raise PayloadError(
            f"it lost {lost} weights with a validation accuracy of {accuracy}, "
            f"expected none below {prune.accuracy_threshold}"
        )
    most = weights_to_prune(prune, _total(table), left)
    if prune.scope == pb.Plan.GLOBAL:
        if lost > most:
            raise PayloadError(f"it lost {lost} of {left} weights, expected at most {most} in one step of its plan")
        return
    for name, kept in before.items():
        share = round(most / left * kept) + 1 if most else 0  # every tensor rounds by itself
        if kept - after[name] > share:
            raise PayloadError(
                f"{name}: lost {kept - after[name]} of {kept} weights, expected at most {share} in one step of its plan"
            )
