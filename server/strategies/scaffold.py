"""SCAFFOLD: control variates take the clients' drift out of their steps (Karimireddy et al. 2020, "SCAFFOLD: Stochastic
Controlled Averaging for Federated Learning", Algorithm 1 with option II)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lotteryfl.common.wire.clientresult import ClientResult
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState, RoundOutcome
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.support.options import check_known
from lotteryfl.server.strategies.support.sharing import check_all_shared


class Scaffold(FedAvg):
    """A gradient of client k is corrected by c - c_k: where all clients go on average, less where this one goes.

    All clients count alike. The server's step η_g is 1, or `server.lr` with `server.optimizer = "sgd"` and
    `server.momentum = 0`.

    Differs from the paper: c_k becomes the mean of the gradients of its client's steps. With steps of plain gradient
    descent that is option II's c_k - c + (x - y_k) / (K η); with momentum, schedules, clipping and weight decay, of
    which the paper has none, it still is what a variate stands for. The round after the last trains without variates.
    """

    name = "scaffold"
    local = "scaffold"

    def check(self, table: TensorTable) -> None:
        """Check as all do, and that nothing is a client's own: it would be steered to where the others' go.

        Raises:
            ExperimentError: something is, or as all do.
        """
        super().check(table)
        check_known(self.experiment)
        check_all_shared(self, table, "corrects what all share")

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        """Return c, which goes with the model, and each client's c_k; all begin as 0."""
        del table
        return (StrategyTensor("c", "shared", like="parameters"), StrategyTensor("c_k", "own", like="parameters"))

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train with corrected gradients; c comes back moved by as much as the client's own variate has."""
        plan = super().plan(round_, client)
        plan.local.CopyFrom(self.local_plan())
        return plan

    def weight(self, result: ClientResult) -> float:
        """Count all clients alike."""
        del result
        return 1.0

    def after_round(self, outcome: RoundOutcome) -> Mapping[str, Tensor]:
        """Move c by the mean of what the variates moved, times the share of all clients whose variates did."""
        share = len(outcome.results) / self.experiment.participants
        if share == 1:
            return {}
        names = [spec.name for spec in outcome.table.added if spec.role == "shared"]
        return {name: _between(outcome.before[name], outcome.aggregated[name], share) for name in names}


def _between(before: Tensor, after: Tensor, share: float) -> Tensor:
    """Return what is a share of the way; whatever clients have sent, it is finite."""
    most = torch.finfo(before.dtype).max
    return before.double().lerp(after.double(), share).clamp(-most, most).to(before.dtype)
