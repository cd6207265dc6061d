"""What a run has spent of its clients' privacy: (ε, δ) by Rényi differential privacy, reckoned by Opacus.

Who takes part in a round is no secret here (it derives from the run's seed, and the run's status names clients), so
taking part seldom is counted as that and no more: there is no amplification by sampling clients. Examples are drawn
for every step by their own client, at random and in secret (Poisson sampling), which does amplify.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.rows import Spent

_ORDERS = tuple([1 + x / 10 for x in range(1, 100)] + list(range(12, 64)))
"""The orders of the Rényi divergence that Opacus takes."""

_WHOLE_ORDERS = tuple(order for order in _ORDERS if float(order).is_integer())
"""The whole ones of `_ORDERS`: the others take Opacus a quarter of a second for every sampling rate."""


class Releases(NamedTuple):
    """Gaussian mechanisms, one after the other."""

    noise_multiplier: float
    """Standard deviation of the noise over the L2 sensitivity."""
    sample_rate: float
    """The chance of what is protected to take part in each of them (Poisson); 1: always."""
    steps: int


def require_accountant() -> None:
    """Check that Opacus is installed.

    Raises:
        ExperimentError: it is not.
    """
    _analysis()


def epsilon(history: Iterable[Releases], delta: float) -> float:
    """Return the ε for which releases that build on each other are (ε, δ)-differentially private."""
    history = [releases for releases in history if releases.steps]
    if not history:
        return 0.0
    orders = _ORDERS if all(releases.sample_rate == 1 for releases in history) else _WHOLE_ORDERS
    divergence = sum(r.steps * _divergence(r.noise_multiplier, r.sample_rate, orders) for r in history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an order outside of these might give a little less
        found, _ = _analysis().get_privacy_spent(orders=orders, rdp=divergence, delta=delta)
    return float(found)


def epsilons(database: Database, experiment: Experiment) -> dict[int, float]:
    """Return what every client has spent so far, the results of the open round included; none, 0 is not among them.

    With the server's noise every result counts that went into a model, for a client as against an update of zero.
    With the clients' own, every time that work was given out, the last round's included, for any data as against any
    others: two updates differ by up to twice their bound. With DP-SGD the same, for one example more or less.
    """
    return _Spending(experiment).of(_work_of(database, experiment))


class Accountant:
    """Keeps what clients have spent from round to round: a round's commit costs what the round has, not the past."""

    def __init__(self, database: Database, experiment: Experiment) -> None:
        """Take up a run that promises privacy, as of its committed rounds."""
        self._database = database
        self._experiment = experiment
        self._spending = _Spending(experiment)
        self._work = _work_of(database, experiment, "round IN (SELECT round FROM rounds WHERE state = 'committed')")
        self._spent = self._spending.of(self._work)
        self._most = max(self._spent.values(), default=0.0)
        self._next = _Next({}, {}, self._most)

    def most_spent_with(self, round_: int) -> Spent:
        """Return what the client has spent that spent most, once a round is committed as it stands; see `keep`."""
        found = _work_of(self._database, self._experiment, "round = ?", round_)
        work = {client: self._work.get(client, _Work()).with_more(more) for client, more in found.items()}
        spent = self._spending.of(work)
        before = max((self._spent.get(client, 0.0) for client in spent), default=0.0)
        most = max(spent.values(), default=0.0)
        # A client that turns out to have more examples than were known may have spent less than was thought.
        is_lower = most < before == self._most
        others = (self._spent | spent).values() if is_lower else (self._most,)
        self._next = _Next(work, spent, max(most, *others))
        return Spent(self._next.most, self._experiment.privacy.delta)

    def keep(self) -> None:
        """Note that the round is committed."""
        self._work |= self._next.work
        self._spent |= self._next.spent
        self._most = self._next.most


class _Next(NamedTuple):
    """How it stands once a round is committed: what has changed by client, and the most."""

    work: "dict[int, _Work]"
    spent: dict[int, float]
    most: float


class _Work(NamedTuple):
    """What a client was asked for so far, or, where its results are what counts, gave."""

    times: tuple[tuple[bytes, int], ...] = ()
    """How often by which plan, in the order of these."""
    examples: int | None = None
    """The client's training examples; None as long as none of its results has told."""

    def with_more(self, other: "_Work") -> "_Work":
        """Return both together."""
        times = Counter(dict(self.times)) + Counter(dict(other.times))
        known = [examples for examples in (self.examples, other.examples) if examples is not None]
        return _Work(tuple(sorted(times.items())), max(known, default=None))


class _Spending:
    """What work costs."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._plans: dict[bytes, pb.Plan] = {}

    def of(self, work: Mapping[int, _Work]) -> dict[int, float]:
        """Return by client what its work has cost; only of those whom it has cost something."""
        histories = {client: history for client, each in work.items() if (history := self._history(each))}
        # Most clients have the same history as others, and Opacus takes its time.
        delta = self._experiment.privacy.delta
        spent = {history: epsilon(history, delta) for history in set(histories.values())}
        return {client: spent[history] for client, history in histories.items()}

    def _history(self, work: _Work) -> tuple[Releases, ...]:
        privacy = self._experiment.privacy
        if privacy.noise == "server":
            return tuple(Releases(privacy.noise_multiplier, 1.0, times) for _, times in work.times)
        if privacy.noise == "client":
            return tuple(Releases(privacy.noise_multiplier / 2, 1.0, times) for _, times in work.times)
        if work.examples is None:
            return ()
        training = self._experiment.training
        rate = min(training.batch_size, work.examples) / work.examples
        return tuple(
            Releases(privacy.noise_multiplier, rate, times * self._steps(plan, training.batches_of(work.examples)))
            for plan, times in work.times
        )

    def _steps(self, plan: bytes, steps_of_epoch: int) -> int:
        if plan not in self._plans:
            self._plans[plan] = pb.Plan.FromString(plan)
        train = self._plans[plan].train
        return train.steps or train.epochs * steps_of_epoch


@cache
def _divergence(
    noise_multiplier: float, sample_rate: float, orders: tuple[float, ...]
) -> npt.NDArray[np.floating[Any]]:
    found: npt.NDArray[np.floating[Any]] = _analysis().compute_rdp(
        q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=list(orders)
    )
    return found


def _analysis() -> Any:
    try:
        from opacus.accountants.analysis import rdp
    except ImportError as error:
        raise ExperimentError(
            "[privacy]: what is spent is reckoned by Opacus, which is not installed: pip install 'lotteryfl[privacy]'"
        ) from error
    return rdp


def _work_of(database: Database, experiment: Experiment, rounds: str = "TRUE", *parameters: int) -> dict[int, _Work]:
    """Return by client what counts, of the rounds that a condition of SQL says.

    With the server's noise that is results that went into a global model: none of those after the last round.
    """
    if experiment.privacy.noise == "server":
        rows = database.select(
            f"SELECT client, count(*) FROM results WHERE {rounds} AND round BETWEEN 1 AND ? GROUP BY client",  # noqa: S608
            *parameters,
            experiment.rounds,
        )
        return {client: _Work(((b"", results),)) for client, results in rows}
    examples = dict(
        database.select(f"SELECT client, max(examples) FROM results WHERE {rounds} GROUP BY client", *parameters)  # noqa: S608
    )
    times: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
    rows = database.select(
        f"SELECT client, plan, sum(attempt) FROM assignments WHERE {rounds} AND attempt > 0 "  # noqa: S608
        "GROUP BY client, plan ORDER BY client, plan",
        *parameters,
    )
    for client, plan, attempts in rows:
        times[client].append((plan, attempts))
    return {client: _Work(tuple(each), examples.get(client)) for client, each in times.items()}
