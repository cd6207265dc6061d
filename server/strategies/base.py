"""What a strategy is: who takes part, what each client does (as a plan), and what becomes of the results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import ClassVar, Literal

from torch import Tensor

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import AggregationSettings, ServerSettings
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.randomness import generator
from lotteryfl.common.training.score import ACCURACY, Score
from lotteryfl.common.wire.maskrule import MaskRule
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb


class ClientState:
    """What the run knows of a client when it plans the client's work."""

    def __init__(self, client: int, history: Callable[[], Sequence[float]] = tuple) -> None:
        """Take note of a client.

        Args:
            client: its number.
            history: gives `densities`; called when a strategy first asks for them.
        """
        self.client = client
        self._history = history

    @cached_property
    def densities(self) -> tuple[float, ...]:
        """Kept share of its weights after each of its results so far, in order."""
        return tuple(self._history())


class Strategy(ABC):
    """The policy of a run. Workers never see it: it reaches them as plans."""

    name: ClassVar[str]
    prunes: ClassVar[bool] = False
    """There are masks: a model with nothing to prune is a mistake."""
    aggregates: ClassVar[bool] = True
    """Results are put together in the global model; False: every client goes on from its own last result."""
    starts_under: ClassVar[Literal["own mask", "shared mask", "no mask"]] = "own mask"
    """What a client's work begins with: its last mask, which then only loses bits; one that `initial_masks` or
    `next_masks` gave to all; or the whole global model."""
    mask_rule: ClassVar[MaskRule] = "shrinks"
    """How its plans let a client's mask change, from that which its work begins under; results are held to it."""
    settles_mask: ClassVar[bool] = False
    """A shared mask is made before anybody trains and stays: what is a client's own fits under it ever after."""
    counts_zeros: ClassVar[bool] = False
    """Pruned weights count as zeros in the mean; otherwise they do not count."""
    owns_unkept: ClassVar[bool] = False
    """Weights off a client's mask are not pruned but its own."""
    score: Score = ACCURACY
    """What the run is judged by: what a task's own objective names, or accuracy."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def sample(self, round_: int) -> list[int]:
        """Return the clients of a round, ascending: drawn without replacement, each with the same chance."""
        random = generator(self.experiment.seed, "sampling", round_)
        chosen = random.choice(
            self.experiment.participants, size=self.sample_size(round_), replace=False, shuffle=False
        )
        return sorted(int(client) for client in chosen)

    def sample_size(self, round_: int) -> int:
        """Return how many clients take part in a round."""
        del round_
        return self.experiment.clients_per_round

    @abstractmethod
    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        """Return what a sampled client does in a round.

        Args:
            round_: from 1.
            client: who does it.
        """

    def final_plan(self, client: ClientState) -> pb.Plan:
        """Return what every client does after the last round: personalise its ticket as it is."""
        del client
        epochs = self.experiment.strategy.finetune_epochs
        train = pb.Plan.Train(epochs=epochs) if epochs else Strategy.local_training(self)
        return pb.Plan(train=train, owns_unkept=self.owns_unkept)

    def local_training(self) -> pb.Plan.Train:
        """Return the experiment's local training."""
        training = self.experiment.training
        return pb.Plan.Train(steps=training.steps) if training.steps else pb.Plan.Train(epochs=training.epochs)

    def check(self, table: TensorTable) -> None:
        """Check that the experiment's settings and its model go with the strategy, before a run is set up.

        Raises:
            ExperimentError: they do not.
        """
        self._check_threshold()
        if self.prunes and not any(spec.prunable for spec in table):
            raise ExperimentError(
                f"task.name = {self.experiment.task.name!r}: its model has nothing to prune (strategy.prunable = "
                f"{self.experiment.strategy.prunable!r}), which strategy.name = {self.name!r} needs"
            )
        own = self.personal(table)
        personal = [spec.name for spec in table if spec.prunable and spec.name in own]
        if personal and self.starts_under != "own mask" and not self.settles_mask:
            raise ExperimentError(
                f"strategy.personal: {personal[0]!r} is prunable, and with strategy.name = {self.name!r} a client "
                "has no mask of its own to keep such a tensor under; expected tensors that are not prunable"
            )
        if self.experiment.evaluation.keep_best and not self.aggregates:
            raise ExperimentError(
                f"evaluation.keep_best = true: with strategy.name = {self.name!r} there is no global model"
            )
        if self.experiment.evaluation.global_every:
            self._check_shared(own)
        if (new := self.experiment.evaluation.new_clients) and not self.aggregates:
            raise ExperimentError(
                f"evaluation.new_clients = {new}: with strategy.name = {self.name!r} there is no global model for them"
            )
        if self.counts_zeros and self.experiment.aggregation.rule != "mean":
            raise ExperimentError(
                f"aggregation.rule = {self.experiment.aggregation.rule!r}: with strategy.name = {self.name!r}, "
                "which counts pruned weights as zeros, expected 'mean'"
            )

    def _check_shared(self, own: frozenset[str]) -> None:
        """Check that there is a whole model that all clients share."""
        why = ""
        if not self.aggregates:
            why = "there is no global model"
        elif self.owns_unkept:
            why = "a part of the weights is each client's own"
        elif own:
            why = f"{min(own)!r} is each client's own"
        if why:
            every = self.experiment.evaluation.global_every
            raise ExperimentError(f"evaluation.global_every = {every}: with strategy.name = {self.name!r} {why}")

    def _check_threshold(self) -> None:
        settings = self.experiment.strategy
        default = type(settings).model_fields["accuracy_threshold"].default
        if self.score.own and settings.accuracy_threshold not in (0, default):  # 0: always, as without a threshold
            raise ExperimentError(
                f"strategy.accuracy_threshold = {settings.accuracy_threshold}: this task is judged by its "
                f"{self.score.name}: expected strategy.score_threshold"
            )
        if not self.score.own and settings.score_threshold is not None:
            raise ExperimentError(
                f"strategy.score_threshold = {settings.score_threshold}: this task is classification, judged by its "
                "accuracy: expected strategy.accuracy_threshold"
            )

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

    def required_personal(self, table: TensorTable) -> frozenset[str]:
        """Return what `strategy.personal` names, for a strategy that is nothing without.

        Raises:
            ExperimentError: it names none, or all.
        """
        names = Strategy.personal(self, table)
        if not names or len(names) == len(table):
            raise ExperimentError(
                f"strategy.personal = {self.experiment.strategy.personal}: {self.name} needs patterns that fit some of "
                f"the model's tensors, as ['conv*']; they are {', '.join(spec.name for spec in table)}"
            )
        return names

    def trains(self, round_: int) -> bool:
        """Say whether a round's results are trained models: its clients' tickets and, together, the global model.

        Otherwise they are measurements in a model's shape, which are never narrowed on their way: both stay as they
        are, and `next_masks` has the mean.
        """
        del round_
        return True

    def takes_best(self, round_: int) -> bool:
        """Say whether the model of the client of best validation score becomes the global one, not a mean."""
        del round_
        return False

    def aggregation(self, round_: int) -> AggregationSettings:
        """Return by which rule, and with which weights, a round's results are put together."""
        del round_
        return self.experiment.aggregation

    def server_optimizer(self) -> ServerSettings:
        """Return what the server does with the mean."""
        return self.experiment.server

    def optimizes(self, round_: int) -> bool:
        """Say whether the server's optimizer makes the global model out of a round's mean."""
        return self.server_optimizer().optimizer != "none" and self.trains(round_) and not self.takes_best(round_)

    def initial_masks(self, table: TensorTable) -> Masks:
        """Return the masks that all clients start their first round from; none: dense."""
        del table
        return {}

    def client_masks(self, client: int, table: TensorTable) -> Masks:
        """Return the masks that a client starts its first round from, where clients have their own; none: dense.

        Those that are the same for many are best the same object.
        """
        del client, table
        return {}

    def next_masks(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Masks | None:
        """Return masks that every client starts under from the next round on; None: as before.

        Args:
            round_: whose results are aggregated, from 1.
            table: of the model.
            aggregated: what they came to, by name; mapped from its file. Under shared masks, a weight that no client
                kept is 0.
        """
        del round_, table, aggregated
        return None
