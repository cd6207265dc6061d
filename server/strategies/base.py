"""What a strategy is: who takes part, what each client does (as a plan), and whether results are shared."""

from abc import ABC, abstractmethod
from typing import ClassVar

from common.experiment import Experiment
from common.randomness import generator
from protos import lotteryfl_pb2 as pb


class Strategy(ABC):
    """The policy of a run. Workers never see it: it reaches them as plans."""

    name: ClassVar[str]
    prunes: ClassVar[bool] = False
    """Clients prune: a model with nothing to prune is a mistake."""
    aggregates: ClassVar[bool] = True
    """Results are put together in the global model; False: every client goes on from its own last result."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def sample(self, round_: int) -> list[int]:
        """Return the clients of a round, ascending: drawn without replacement, each with the same chance."""
        random = generator(self.experiment.seed, "sampling", round_)
        chosen = random.choice(
            self.experiment.clients, size=self.experiment.clients_per_round, replace=False, shuffle=False
        )
        return sorted(int(client) for client in chosen)

    @abstractmethod
    def plan(self) -> pb.Plan:
        """Return what a sampled client does in a round."""

    def final_plan(self) -> pb.Plan:
        """Return what every client does after the last round: personalise its ticket as it is, no pruning."""
        return pb.Plan(train=self.local_training())

    def local_training(self) -> pb.Plan.Train:
        """Return the experiment's local training."""
        return pb.Plan.Train(epochs=self.experiment.training.epochs)
