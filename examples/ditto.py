"""Ditto, both halves (Li et al. 2021, "Ditto: Fair and Robust Federated Learning Through Personalization").

Each client trains the shared model as ever, and beside it a model of its own that is pulled towards the shared one:
by λ / 2 ‖v - w‖², w being what it has downloaded. It is measured by its own.

Differs from the paper: a client's own model begins as the shared one of its first round, not as θ_0.

    lotteryfl run examples/digits.toml --strategy examples/ditto.py --set strategy.name=ditto-example
"""

from torch import nn

from lotteryfl import ClientState, LocalAlgorithm, Strategy, StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb


class Ditto(Strategy):
    """FedAvg, and a model of each client's own; `strategy.options.pull` is λ."""

    name = "ditto-example"
    local = "ditto-example"

    def tensors(self, table: TensorTable) -> list[StrategyTensor]:
        """Keep the client's model with the client."""
        del table
        return [StrategyTensor("personal", "own", like="parameters"), StrategyTensor("begun", "own", shape=(1,))]

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Train the shared model, and tell the client's half λ."""
        del round_, client
        pull = float(self.experiment.strategy.options.get("pull", 1.0))
        return pb.Plan(train=self.local_training(), local=self.local_plan({"pull": pull}))

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Train the client's own model once more."""
        return self.plan(self.experiment.rounds + 1, client)


class DittoOnClient(LocalAlgorithm):
    """Trains the client's own model before the shared one moves."""

    name = "ditto-example"

    def begin(self) -> None:
        """Pull the own model towards what has been downloaded, for as many epochs as the plan has."""
        work = self.work
        own, self.personal = work.like("personal"), work.copy()
        parameters = {name: each for name, each in self.personal.named_parameters() if name in own}  # others are frozen
        downloaded = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        if work.tensors["begun"].any():
            for name, parameter in parameters.items():
                parameter.data.copy_(own[name])
        work.train(self.personal, proximal=work.options["pull"], towards=downloaded, what="personal")
        for name, parameter in parameters.items():
            own[name].copy_(parameter.detach())
        work.tensors["begun"].fill_(1)

    def personalised(self) -> nn.Module:
        """Measure the client by its own model."""
        return self.personal
