"""FedBABU, the client's half (Oh et al. 2022, Algorithm 1): the body is trained, the head is not."""

from collections.abc import Iterable

from lotteryfl.client.local.algorithm import LocalAlgorithm, Phase
from lotteryfl.common.wire.layers import head_and_body


class FedBABU(LocalAlgorithm):
    """Trains the body as long as the plan says."""

    name = "fedbabu"

    def phases(self) -> Iterable[Phase]:
        """Return the body's training."""
        _, body = head_and_body(self.work.table, self.work.options["head"])
        return (Phase(trains=body),)
