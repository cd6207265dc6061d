"""SCAFFOLD, both halves (Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
Algorithm 1 with option II).

Every step is corrected by c - c_k: what all clients' gradients are on average, less what this one's are. After its
steps a client's variate is the mean of their gradients as they were without the correction, and c moves by the mean
of what its clients' have moved, times the share of the clients that take part.

Differs from the paper: the server's step is 1. By plain steps, of learning rate η, the mean of the gradients is
option II's c_k - c + (x - y) / (steps · η); with momentum, schedules and weight decay, which the paper has none of, it
still is what a variate stands for. The share is of the clients that a round asks: of those that never answer too.

    lotteryfl run examples/digits.toml --strategy examples/scaffold.py --set strategy.name=scaffold-example
"""

import torch

from lotteryfl import ClientResult, ClientState, LocalAlgorithm, Strategy, StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb


class Scaffold(Strategy):
    """FedAvg of equal weights, with control variates."""

    name = "scaffold-example"
    local = "scaffold-example"

    def tensors(self, table: TensorTable) -> list[StrategyTensor]:
        """Declare c, which goes with the model, and each client's c_k."""
        del table
        return [StrategyTensor("c", "shared", like="parameters"), StrategyTensor("c_k", "own", like="parameters")]

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train, and tell the client's half which share of the clients takes part."""
        del round_, client
        share = self.experiment.clients_per_round / self.experiment.participants
        return pb.Plan(train=self.local_training(), local=self.local_plan({"share": share}))

    def weight(self, result: ClientResult) -> float:
        """Count all clients alike."""
        del result
        return 1.0


class ScaffoldOnClient(LocalAlgorithm):
    """Corrects every gradient, and renews the variates afterwards."""

    name = "scaffold-example"

    def begin(self) -> None:
        """Find what has variates, which is what trains, and begin to add its gradients up."""
        self.steps = 0
        parameters, self.c, self.c_k = self.work.named_parameters(), self.work.like("c"), self.work.like("c_k")
        self.trained = {name: parameters[name] for name in self.c}
        self.sums = {name: torch.zeros_like(c_k) for name, c_k in self.c_k.items()}

    def before_step(self, step: int) -> None:
        """Add the gradients up, then c - c_k to them."""
        self.steps = step
        for name, parameter in self.trained.items():
            if parameter.grad is None:  # no example went through it
                parameter.grad = torch.zeros_like(parameter)
            self.sums[name] += parameter.grad
            parameter.grad += self.c[name] - self.c_k[name]

    def end(self) -> None:
        """Renew c_k, and let c go back moved by this client's part."""
        for name, total in self.sums.items():
            c, c_k, new = self.c[name], self.c_k[name], total / self.steps
            c += self.work.options["share"] * (new - c_k)
            c_k.copy_(new)
