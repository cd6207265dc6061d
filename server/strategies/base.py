"""What a strategy is: who takes part, what each client does (as a plan), and what becomes of the results."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from torch import Tensor

from common.errors import ExperimentError
from common.experiment import Experiment, ServerSettings
from common.masks import PackedMask
from common.randomness import generator
from common.tensortable import TensorTable
from protos import lotteryfl_pb2 as pb


@dataclass(frozen=True)
class ClientState:
    """What the run knows of a client when it plans the client's work."""

    client: int
    densities: tuple[float, ...] = ()
    """Of its ticket after each of its results, in order."""

    @property
    def density(self) -> float:
        """Of its ticket; 1 before its first result."""
        return self.densities[-1] if self.densities else 1.0


@dataclass(frozen=True)
class Outcome:
    """What a round has come to, beyond the new global model."""

    masks: Mapping[str, PackedMask] | None = None
    """Masks that every client starts from from now on; None: as before."""
    keeps_model: bool = True
    """False: what was aggregated is no model, and the global one stays."""


class Strategy(ABC):
    """The policy of a run. Workers never see it: it reaches them as plans."""

    name: ClassVar[str]
    prunes: ClassVar[bool] = False
    """There are masks: a model with nothing to prune is a mistake."""
    aggregates: ClassVar[bool] = True
    """Results are put together in the global model; False: every client goes on from its own last result."""
    masks_only_shrink: ClassVar[bool] = True
    """A client's mask loses bits alone; False: it starts every round from the whole model, or bits come back."""
    starts_whole: ClassVar[bool] = False
    """Clients start every round from the whole global model, whatever their last mask was."""
    counts_zeros: ClassVar[bool] = False
    """Pruned weights count as zeros in the mean; otherwise they do not count."""
    owns_unkept: ClassVar[bool] = False
    """Weights off a client's mask are not pruned but its own."""

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
    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Return what a sampled client does in a round, from 1."""

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Return what every client does after the last round: personalise its ticket as it is."""
        del client
        epochs = self.experiment.strategy.finetune_epochs or self.experiment.training.epochs
        return pb.Plan(train=pb.Plan.Train(epochs=epochs), owns_unkept=self.owns_unkept)

    def local_training(self) -> pb.Plan.Train:
        """Return the experiment's local training."""
        return pb.Plan.Train(epochs=self.experiment.training.epochs)

    def personal(self, table: TensorTable) -> frozenset[str]:
        """Return the names of the tensors that are each client's own: sent back and forth, never averaged.

        Raises:
            ExperimentError: a pattern of `strategy.personal` fits no tensor.
        """
        names = [spec.name for spec in table]
        for pattern in self.experiment.strategy.personal:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ExperimentError(
                    f"strategy.personal = {pattern!r}: fits none of the model's tensors: {', '.join(names[:20])}"
                )
        patterns = self.experiment.strategy.personal
        return frozenset(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))

    def takes_best(self, round_: int) -> bool:
        """Say whether the model of the client of best validation accuracy becomes the global one, not a mean."""
        del round_
        return False

    def server_optimizer(self) -> ServerSettings:
        """Return what the server does with the mean."""
        return self.experiment.server

    def initial_masks(self, table: TensorTable) -> Mapping[str, PackedMask]:
        """Return the masks that all clients start their first round from; none: dense."""
        del table
        return {}

    def conclude(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Outcome:
        """Say what else a round has come to, when its results are aggregated.

        Args:
            round_: from 1.
            table: of the model.
            aggregated: what the results came to, by name; mapped from its file.
        """
        del round_, table, aggregated
        return Outcome()
