"""What every client starts its first round under, where clients have masks of their own."""

from collections.abc import Iterator

from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies.base import Strategy
from lotteryfl.server.strategies.support.asked import has_own
from lotteryfl.server.strategies.support.drawing import drawing


def first_masks(strategy: Strategy, table: TensorTable) -> Iterator[Masks]:
    """Yield each client's, in order; the same whenever they are asked for. None, where no client has any of its own.

    Args:
        strategy: of the run.
        table: of what moves of the model.
    """
    if not has_own(strategy, "client_masks"):
        return
    with drawing(strategy.experiment, "client masks"):
        for client in range(strategy.experiment.clients):
            yield strategy.client_masks(client, table)
