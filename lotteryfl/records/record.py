"""What a record holds. It is a stranger's: everything in it is bounded, and nothing of it is believed unseen."""

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models.named import model_name
from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.section import Section
from lotteryfl.common.text import quoted
from lotteryfl.common.training import score as scores

MOST_POINTS = 1001
"""Rounds of a curve: of longer runs some are left out, never one that was better than all before it."""
MOST_CLIENTS = 1000
"""Clients whose own scores are told: of more than these, none are."""
_MOST_BYTES = 2**62

Text = Annotated[str, StringConstraints(max_length=200)]
SHA256 = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]
NoOrSHA256 = Annotated[str, StringConstraints(pattern=r"\A([0-9a-f]{64})?\z")]
Number = Annotated[int, Field(ge=0, lt=2**31)]
Bytes = Annotated[int, Field(ge=0, lt=_MOST_BYTES)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Value = Annotated[float, Field(ge=-1e100, le=1e100)]
"""A score: means and spreads of such are numbers, too."""
Curve = Annotated[tuple[Value, ...], Field(max_length=MOST_POINTS)]
Numbers = Annotated[tuple[Number, ...], Field(max_length=MOST_POINTS)]
OfClients = Annotated[tuple[Value, ...], Field(max_length=MOST_CLIENTS)]


class Made(Section):
    """With what the record was made: on the machine of the run, where nothing else is said."""

    lotteryfl: Text
    python: Text
    torch: Text
    numpy: Text
    system: Text
    """As Linux."""
    machine: Text
    """As x86_64."""
    cpu: Text
    """Which of its instructions torch goes by, as AVX2: on another kind the bits are others."""


class Judged(Section):
    """By what the models are judged."""

    name: Annotated[str, StringConstraints(pattern=r"\A[a-z][a-z0-9_]{0,63}\z")] = "accuracy"
    higher_is_better: bool = True
    own: bool = False
    """A task's objective names it; otherwise it is an accuracy in [0, 1]."""

    @property
    def score(self) -> scores.Score:
        """The score."""
        return scores.Score(self.name, self.higher_is_better, self.own)


class Scores(Section):
    """Means over clients on their own test data, by the score; `last` is every client's, after the last round."""

    personalised: Value
    personalised_best: Value
    downloaded: Value
    downloaded_best: Value
    worst_tenth: Value | None
    """Mean of the worst tenth of the clients, personalised; None: privacy hides it."""
    on_global: Value | None
    """Of the personalised models on the task's global test data; None: not measured."""
    shared: Value | None
    """The shared model itself on that data, as it was measured last; None: not measured."""
    shared_best: Value | None
    new_downloaded: Value | None
    """Of clients that took part in no round that trains; None: there are none, or privacy hides it."""
    new_personalised: Value | None


class Rounds(Section):
    """The rounds as a curve: lists of one length, the last measuring of every client among them."""

    round: Annotated[Numbers, Field(min_length=1)]
    sent: Annotated[tuple[Bytes, ...], Field(max_length=MOST_POINTS)]
    """Bytes of tensors with their frames, down and up, from the start to the round's end; θ_0 counts with the first."""
    downloaded: Curve
    """Mean score over the round's clients of the model as they got it."""
    personalised: Curve
    """The same after local training."""
    density: Curve

    @model_validator(mode="after")
    def _even(self) -> Self:
        lists: dict[str, Sequence[float]] = {name: getattr(self, name) for name in type(self).model_fields}
        _check_lengths("rounds", lists)
        _check_ascending("rounds.round", self.round, strictly=True)
        _check_ascending("rounds.sent", self.sent)
        return self

    def sent_after(self, round_: int) -> int:
        """Return the bytes that were sent until the end of a round, or of the next one that is told of."""
        return self.sent[min(bisect_left(self.round, round_), len(self.sent) - 1)] if round_ else 0


class Shared(Section):
    """The shared model on the task's global test data: lists of one length."""

    round: Annotated[Numbers, Field(min_length=1)]
    """After which it was measured; 0: it was θ_0."""
    score: Curve

    @model_validator(mode="after")
    def _even(self) -> Self:
        _check_lengths("shared", {"round": self.round, "score": self.score})
        _check_ascending("shared.round", self.round, strictly=True)
        return self


class Clients(Section):
    """Every client after the last round, by its own test data: lists of one length."""

    client: Annotated[tuple[Number, ...], Field(min_length=1, max_length=MOST_CLIENTS)]
    downloaded: OfClients
    personalised: OfClients
    density: OfClients

    @model_validator(mode="after")
    def _even(self) -> Self:
        _check_lengths("clients", {name: getattr(self, name) for name in type(self).model_fields})
        _check_ascending("clients.client", self.client, strictly=True)
        return self


class Spent(Section):
    """What is promised of every client's part, or of every example's."""

    epsilon: Annotated[float, Field(ge=0)]
    delta: Share


class Record(Section):
    """A finished run, as it is told to everybody."""

    lotteryfl_record: Literal[1]
    """Version of what a record is made of; raised with every change that an earlier one would misread."""
    protocol: Text
    """Which one the experiment is, as the writer's program knew it; '': none. Readers go by the experiment."""
    experiment: Experiment
    """As resolved, without who may work, and places."""
    withheld: Annotated[tuple[Text, ...], Field(max_length=100)] = ()
    """Keys of the experiment whose values are not told: places and secrets."""
    made: Made
    strategy_sha256: SHA256
    """Of the files of its class, as they were when the record was made."""
    task_sha256: NoOrSHA256 = ""
    """Of the files of a task of somebody's own; '': it is built in."""
    local_sha256: NoOrSHA256 = ""
    """Of the files of a local algorithm of somebody's own."""
    initial_sha256: NoOrSHA256 = ""
    """Of the file that θ_0 is from; '': it is freshly initialised."""
    parameters: Bytes
    """Elements of the model's parameters and buffers."""
    prunable: Bytes
    """Of these the weights that a density is of."""
    judged: Judged = Judged()
    scores: Scores
    density: Share
    """Kept share of the prunable weights, mean over clients after the last round."""
    down: Bytes
    """All that was sent to workers, θ_0 once to each."""
    up: Bytes
    workers: Number
    """How many did the work; 0: it was done in one process, and bytes are as if every client had a machine of its own.
    A worker of several clients may get the model once for all of them."""
    seconds: Seconds
    """Of all rounds, by the wall clock."""
    left_out: Number
    """Clients that sat rounds out."""
    privacy: Spent | None = None
    bits_depend_on: Literal["", "attendance"] = ""
    """On what beside the experiment and the kind of machine."""
    rounds: Rounds
    shared: Shared | None = None
    clients: Clients | None = None
    """None: privacy hides them, or there are too many."""
    model_sha256: SHA256
    tickets_sha256: SHA256

    @property
    def megabytes(self) -> float:
        """All that was sent, both ways, in 10^6 bytes."""
        return (self.down + self.up) / 1e6

    @property
    def rounds_trained(self) -> int:
        """Rounds that trained: fewer than planned where `evaluation.patience` ended the run."""
        *before, _ = self.rounds.round
        return before[-1] if before and self.experiment.evaluation.patience else self.experiment.rounds

    @model_validator(mode="after")
    def _told(self) -> Self:
        task, partition = self.experiment.task, self.experiment.partition
        model = model_name(task.model)
        if self.experiment.access.workers:
            raise ValueError("experiment.access: expected none: who may work is nobody's business")
        if task.name != task_id(task.name) or task.data_dir or task.initial or partition != partition.without_place:
            raise ValueError("experiment: names places of a machine's: expected none")
        for key in self.withheld:
            if key != "task.initial" and not key.startswith(("task.options.", "strategy.options.")):
                raise ValueError(f"withheld: {quoted(key)}: expected task.initial, or an option of a task or strategy")
        if model and (model.is_folder or model.short != str(model)):
            raise ValueError(f"experiment.task.model = {quoted(task.model)}: a place: expected none")
        return self


def _check_lengths(what: str, lists: dict[str, Sequence[float]]) -> None:
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"{what}: lists of different lengths ({said}): expected one length")


def _check_ascending(what: str, values: Sequence[int], *, strictly: bool = False) -> None:
    for before, after in itertools.pairwise(values):
        if after < before + strictly:
            raise ValueError(f"{what}: {after} after {before}: expected ascending numbers")
