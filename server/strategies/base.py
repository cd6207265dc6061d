"""What a strategy is: who takes part, what each client does (as a plan), and what becomes of the results."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, ClassVar, Literal

from torch import Tensor

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import AggregationSettings, ServerSettings
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.randomness import generator
from lotteryfl.common.training.score import ACCURACY, Score
from lotteryfl.common.wire.clientresult import ClientResult, ResultMetrics
from lotteryfl.common.wire.maskrule import MaskRule
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb


class ClientState:
    """What the run knows of a client when it plans the client's work; each is looked up when it is first asked for."""

    def __init__(
        self,
        client: int,
        history: Callable[[], Sequence[float]] = tuple,
        *,
        rounds: Callable[[], Sequence[int]] = tuple,
        last: Callable[[], ClientResult | None] = lambda: None,
        worker: Callable[[], str] = str,
    ) -> None:
        """Take note of a client.

        Args:
            client: its number.
            history: gives `densities`; called when a strategy first asks for them, as are the others.
            rounds: gives `rounds`.
            last: gives its last result.
            worker: gives `worker`.
        """
        self.client = client
        self._history = history
        self._rounds = rounds
        self._find_last = last
        self._find_worker = worker

    @cached_property
    def densities(self) -> tuple[float, ...]:
        """Kept share of its weights after each of its results so far, in order."""
        return tuple(self._history())

    @cached_property
    def rounds(self) -> tuple[int, ...]:
        """The rounds of which there is a result of it, in order."""
        return tuple(self._rounds())

    @cached_property
    def last(self) -> ClientResult | None:
        """Its last result; None: it has none."""
        return self._find_last()

    @property
    def metrics(self) -> ResultMetrics | None:
        """What was measured for its last result; None: it has none."""
        return None if self.last is None else self.last.metrics

    @property
    def examples(self) -> int | None:
        """Its training examples, by its last result; None: it has none."""
        return None if self.last is None else self.last.examples

    @cached_property
    def worker(self) -> str:
        """Name of the worker that its last result is from; '': it has none.

        Raises:
            ExperimentError: the strategy does not say that its bits depend on who is there (`attends`).
        """
        return self._find_worker()


@dataclass(frozen=True)
class RoundOutcome:
    """What a round came to, before it is committed."""

    round: int
    results: Sequence[ClientResult]
    """All that count, in client order."""
    table: TensorTable
    before: Mapping[str, Tensor]
    """The global model that the round started from, by name; mapped from its file."""
    aggregated: Mapping[str, Tensor]
    """What the results were put together to, by name; mapped from its file."""


class Strategy(ABC):
    """The policy of a run. Workers never see it: it reaches them as plans."""

    name: ClassVar[str]
    prunes: ClassVar[bool] = False
    """There are masks: a model with nothing to prune is a mistake."""
    aggregates: ClassVar[bool] = True
    """Results are put together in the global model; False: every client goes on from its own last result."""
    starts_under: ClassVar[Literal["own mask", "shared mask", "sent mask", "no mask"]] = "own mask"
    """What a client's work begins with: its last mask, which then only loses bits; one that `initial_masks` or
    `next_masks` gave to all; one that `next_masks` gave for what is sent, off which the global model stays as it is; or
    the whole global model."""
    mask_rule: ClassVar[MaskRule] = "shrinks"
    """How its plans let a client's mask change, from that which its work begins under; results are held to it."""
    settles_mask: ClassVar[bool] = False
    """A shared mask is made before anybody trains and stays: what is a client's own fits under it ever after."""
    counts_zeros: ClassVar[bool] = False
    """Pruned weights count as zeros in the mean; otherwise they do not count."""
    counts_grown: ClassVar[bool] = True
    """Weights that came into a client's mask in its work count at once; otherwise from its next result on."""
    sends_changes: ClassVar[bool] = False
    """What clients return of the model's parameters is by how much they have changed: the mean is added to the global
    model, and results are nobody's tickets, but for the last ones."""
    owns_unkept: ClassVar[bool] = False
    """Weights off a client's mask are not pruned but its own."""
    local: ClassVar[str] = ""
    """The local algorithm that its plans name: the clients' half, in code that workers have; empty: there is none."""
    attends: ClassVar[bool] = False
    """It looks at who is there: `sample_attending` draws in the place of `sample`, and plans may go by
    `ClientState.worker`. Bits depend on it then, and what was seen is on record."""
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

    def sample_attending(self, round_: int, held: Sequence[int]) -> list[int]:
        """Return the clients of a round by who is there, ascending; as many as otherwise, or all that there are.

        Args:
            round_: from 1.
            held: the clients whose data connected workers hold, ascending, at least one; others cannot be drawn.
        """
        random = generator(self.experiment.seed, "sampling", round_)
        size = min(self.sample_size(round_), len(held))
        return sorted(held[int(place)] for place in random.choice(len(held), size=size, replace=False, shuffle=False))

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

    def local_plan(self, options: Mapping[str, Any] | None = None) -> pb.Plan.Local:
        """Return what lets a plan be followed by the strategy's local algorithm.

        Args:
            options: what it is told, as `work.options`: as JSON has it.

        Raises:
            ExperimentError: something that JSON does not have.
        """
        try:
            text = json.dumps(options, allow_nan=False) if options else ""
        except (TypeError, ValueError) as error:
            raise ExperimentError(f"strategy.name = {self.name!r}: options of {self.local!r}: {error}") from error
        return pb.Plan.Local(name=self.local, options_json=text)

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
        if (keeps := self.experiment.evaluation.said_to_keep()) and not self.aggregates:
            raise ExperimentError(f"{keeps}: with strategy.name = {self.name!r} there is no global model")
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
                fits = ", ".join(names[:20]) or f"with strategy.name = {self.name!r} all stay as they began"
                raise ExperimentError(f"strategy.personal = {pattern!r}: fits none of the model's tensors: {fits}")
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

    def fixed(self, table: TensorTable) -> frozenset[str]:
        """Return the names of the parameters that stay as θ_0 has them and go with no round; none.

        Args:
            table: of the model, without what is frozen.
        """
        del table
        return frozenset()

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        """Return the tensors of the strategy's own that are stored, and go between coordinator and clients; none.

        Args:
            table: of the model, without what is frozen or fixed.
        """
        del table
        return ()

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

    def weight(self, result: ClientResult) -> float:
        """Return how much a result counts in the mean, not below 0; at 0 it is as if it had not come.

        Args:
            result: of a round whose results are put together.
        """
        return result.examples

    def after_round(self, outcome: RoundOutcome) -> Mapping[str, Tensor]:
        """Return values in the place of what a round's results were put together to, by name; none: all stays.

        It is asked after every round whose results are put together, also of those that only measure, where it can but
        look; a restart asks again, so the answer goes by the outcome alone.

        Args:
            outcome: the round's results, with their metrics, and what they came to.
        """
        del outcome
        return {}

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

    def masks_of_initial(self, table: TensorTable, initial: Mapping[str, Tensor]) -> Masks:
        """Return the same masks where they are made of θ_0; by default those of `initial_masks`.

        Args:
            table: of the model, without what is frozen or fixed.
            initial: θ_0, by name; not to be changed.
        """
        del initial
        return self.initial_masks(table)

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
            aggregated: what they came to, by name, the strategy's own tensors included; mapped from its file. Under
                shared masks, a weight that no client kept is 0.
        """
        del round_, table, aggregated
        return None
