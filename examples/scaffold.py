"""SCAFFOLD, both halves (Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
Algorithm 1 with option II).

Every step is corrected by c - c_k: what all clients' gradients are on average, less what this one's are. After its
steps, of learning rate η, a client's variate is c_k - c + (x - y) / (steps · η), and c moves by the mean of what its
clients' have moved, times the share of the clients that took part.

Differs from the paper: the server's step is 1; momentum and weight decay are those of the experiment (0 in the paper).

    lotteryfl run examples/digits.toml --strategy examples/scaffold.py --set strategy.name=scaffold-example \
        --set training.momentum=0
"""

from torch import Tensor

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
        """Remember where the steps begin."""
        self.steps = 0
        self.start = {name: parameter.detach().clone() for name, parameter in self.work.named_parameters().items()}

    def before_step(self, step: int) -> None:
        """Add c - c_k to the gradients."""
        self.steps = step
        for name, parameter in self.work.named_parameters().items():
            if parameter.grad is not None:
                parameter.grad += self._variate("c", name) - self._variate("c_k", name)

    def end(self) -> None:
        """Renew c_k, and let c go back moved by this client's part."""
        for name, parameter in self.work.named_parameters().items():
            c, c_k = self._variate("c", name), self._variate("c_k", name)
            new = c_k - c + (self.start[name] - parameter.detach()) / (self.steps * self.work.lr)
            c += self.work.options["share"] * (new - c_k)
            c_k.copy_(new)

    def _variate(self, which: str, name: str) -> Tensor:
        """Return a parameter's variate."""
        return self.work.tensors[f"{which}:{name}"]
