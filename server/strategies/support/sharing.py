"""Strategies that need something of the model to be shared, and what is refused of `strategy.personal` then."""

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies.base import Strategy


def check_all_shared(strategy: Strategy, table: TensorTable, does: str) -> None:
    """Check that nothing of the model is each client's own.

    Args:
        strategy: whose.
        table: of the model.
        does: what it does with what all share, of which an own part is no part.

    Raises:
        ExperimentError: something is.
    """
    if own := strategy.personal(table):
        raise ExperimentError(
            f"strategy.personal: {min(own)!r} would be each client's own, and strategy.name = {strategy.name!r} "
            f"{does}: expected none"
        )


def check_some_shared(strategy: Strategy, table: TensorTable) -> None:
    """Check that some parameter of the model is not each client's own.

    Raises:
        ExperimentError: none is shared.
    """
    parameters = {spec.name for spec in table if spec.role == "parameter"}
    if parameters <= strategy.personal(table):
        raise ExperimentError(
            f"strategy.personal = {strategy.experiment.strategy.personal}: names every parameter, and "
            f"strategy.name = {strategy.name!r} needs some that all share: expected fewer"
        )
