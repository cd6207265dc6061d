"""FedRep, the client's half (Collins et al. 2021, Algorithm 1): the head with the body frozen, then the body with the
head frozen."""

from collections.abc import Iterable

from lotteryfl.client.local.algorithm import LocalAlgorithm, Phase
from lotteryfl.common.wire.layers import head_and_body


class FedRep(LocalAlgorithm):
    """Trains head and body in turn, each as long as it is told; a body that nothing is said of stays as it came."""

    name = "fedrep"

    def phases(self) -> Iterable[Phase]:
        """Return the head's training, then the body's."""
        options = self.work.options
        head, body = head_and_body(self.work.table, options["patterns"])
        yield Phase(trains=head, **options.get("head", {}))
        if "body" in options:
            yield Phase(trains=body, **options["body"])
