"""Tensors of a strategy's own, on the coordinator: which there are, what they go with, and which are clients' own; and
what it keeps fixed of the model."""

from lotteryfl.common.errors import ExperimentError, PayloadError
from lotteryfl.common.wire.strategytensor import with_tensors
from lotteryfl.common.wire.table import TensorTable, is_meant
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import Strategy
from lotteryfl.server.strategies.support.drawing import drawing


def table_with_tensors(strategy: Strategy, table: TensorTable) -> TensorTable:
    """Return a model's table as its strategy has it: with tensors of its own, which go with the experiment.

    Args:
        strategy: which declares them, and what is fixed.
        table: of the whole model; what is fixed in it is as the task has it.

    Raises:
        ExperimentError: one cannot be, or does not go with experiment or strategy.
    """
    what = f"strategy.name = {strategy.name!r}: its tensors"
    try:
        table = table.fixing(())
        with drawing(strategy.experiment, "fixed"):
            fixed = strategy.fixed(table.moving)
        if fixed:
            table = table.fixing(fixed)
            _check_fixed(strategy, table)
        with drawing(strategy.experiment, "tensors"):
            declared = strategy.tensors(table.moving)
        whole = with_tensors(table, declared)
        TensorTable.from_json(whole.to_json())  # its bounds
    except (TypeError, ValueError, PayloadError) as error:
        raise ExperimentError(f"{what}: {error}") from error
    if whole.added:
        _check(strategy, whole)
    return whole


def check_same_tensors(strategy: Strategy, table: TensorTable) -> None:
    """Check that a strategy declares the tensors that its run was set up with.

    Args:
        strategy: of the run.
        table: of the whole model and of the strategy as it was then.

    Raises:
        ExperimentError: naming the first that differs.
    """
    if difference := table_with_tensors(strategy, table.model).difference(table):
        raise ExperimentError(
            f"strategy.name = {strategy.name!r}: its tensors are not those that the run was set up with: {difference}"
        )


def check_sends(strategy: Strategy, plan: pb.Plan, table: TensorTable) -> None:
    """Check that what a plan has its client send is there.

    Raises:
        ExperimentError: naming what is not.
    """
    going_up = [spec.name for spec in table if spec.role == "up"]
    for pattern in plan.sends:
        if not any(is_meant(name, pattern) for name in going_up):
            raise ExperimentError(
                f"strategy.name = {strategy.name!r}: a plan sends {pattern!r}, expected some of its tensors that only "
                f"go up: {', '.join(going_up[:20]) or 'it has none'}"
            )


def names_of_own(strategy: Strategy, table: TensorTable) -> frozenset[str]:
    """Return the names of what is each client's own: of the model and of the strategy's tensors.

    Raises:
        ExperimentError: as `Strategy.personal`.
    """
    return strategy.personal(table.model) | {spec.name for spec in table.added if spec.role == "own"}


def _check_fixed(strategy: Strategy, table: TensorTable) -> None:
    odd = next((spec.name for spec in table.frozen if spec.prunable), "")
    if odd and strategy.prunes:
        raise ExperimentError(
            f"strategy.name = {strategy.name!r}: keeps {odd!r} fixed, which is prunable, and prunes: expected either"
        )


def _check(strategy: Strategy, table: TensorTable) -> None:
    experiment, name = strategy.experiment, table.added[0].name
    what = f"strategy.name = {strategy.name!r}: {name!r} is a tensor of its own, "
    if experiment.privacy.clip_norm or experiment.privacy.is_promised:
        raise ExperimentError(f"{what}which [privacy] neither bounds nor covers with noise; expected none")
    if stacked := experiment.engine.stacked:
        raise ExperimentError(f"{what}and engine.stacked = {stacked} has no rows of it; expected 0")
    for spec in table.added:
        what = f"strategy.name = {strategy.name!r}: {spec.name!r} "
        if spec.role != "own" and not strategy.aggregates:
            raise ExperimentError(f"{what}is put together from results, and with this strategy none are (aggregates)")
        if spec.role != "own":
            continue
        if strategy.sends_changes:
            raise ExperimentError(
                f"{what}is each client's own, and with this strategy results are nobody's (sends_changes)"
            )
        if spec.masked and strategy.starts_under != "own mask" and not strategy.settles_mask:
            raise ExperimentError(
                f"{what}is each client's own and masked, and with this strategy a client has no mask of its own to "
                "keep it under; expected one that is not masked"
            )
        if every := experiment.evaluation.global_every:
            raise ExperimentError(f"{what}is each client's own: expected evaluation.global_every = 0, not {every}")
