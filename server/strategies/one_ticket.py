"""One ticket: one mask for all from the start, each client its own output layer, momentum at the server.

Our own combination of SSFL's mask (Ohib et al. 2024), FedPer's personal layer (Arivazhagan et al. 2019) and FedAvgM's
momentum (Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification", section 4.3); docs/experiments.md has what it comes to.
"""

from lotteryfl.common.experiment.settings import ServerSettings
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies.ssfl import SSFL
from lotteryfl.server.strategies.support.servermomentum import with_momentum


class OneTicket(SSFL):
    """SSFL without a shared output layer: `strategy.personal` names it, as ["fc3.*"]; the mask goes over it too.

    Clients of few classes pull a shared output layer apart, each towards its own classes. With their own, what they
    share is features, and the mean of their steps a direction to gather speed in.
    """

    name = "one-ticket"

    def personal(self, table: TensorTable) -> frozenset[str]:
        """Return the tensors of the output layer.

        Raises:
            ExperimentError: `strategy.personal` names none, or all.
        """
        return self.required_personal(table)

    def server_optimizer(self) -> ServerSettings:
        """Return SGD with a learning rate of 0.5 and a momentum of 0.9, if the experiment says nothing else."""
        return with_momentum(super().server_optimizer())
