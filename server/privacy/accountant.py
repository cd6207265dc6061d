"""What a run has spent of its clients' privacy: (ε, δ) by Rényi differential privacy, reckoned by Opacus.

Who takes part in a round is no secret here (it derives from the run's seed, and the run's status names clients), so
taking part seldom is counted as that and no more: there is no amplification by sampling clients. Examples are drawn
for every step by their own client, at random and in secret (Poisson sampling), which does amplify.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from math import ceil
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
    histories: dict[int, tuple[Releases, ...]] = defaultdict(tuple)
    for client, releases in _releases(database, experiment):
        histories[client] += (releases,)
    # Most clients have the same history as others, and Opacus takes its time.
    spent = {history: epsilon(history, experiment.privacy.delta) for history in set(histories.values())}
    return {client: spent[history] for client, history in histories.items()}


def most_spent(database: Database, experiment: Experiment) -> Spent | None:
    """Return what the client has spent that spent most; None: no privacy is promised."""
    if not experiment.privacy.is_promised:
        return None
    return Spent(max(epsilons(database, experiment).values(), default=0.0), experiment.privacy.delta)


def _releases(database: Database, experiment: Experiment) -> Iterator[tuple[int, Releases]]:
    privacy = experiment.privacy
    if privacy.noise == "server":
        for client, results in _aggregated_results(database, experiment.rounds).items():
            yield client, Releases(privacy.noise_multiplier, 1.0, results)
        return
    for client, plan, times, examples in _attempts(database):
        if privacy.noise == "client":
            yield client, Releases(privacy.noise_multiplier / 2, 1.0, times)
        elif examples is not None:
            batch = min(experiment.training.batch_size, examples)
            steps = times * (plan.train.steps or plan.train.epochs * ceil(examples / batch))
            yield client, Releases(privacy.noise_multiplier, batch / examples, steps)


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


def _aggregated_results(database: Database, last_round: int) -> dict[int, int]:
    """Return by client how many of its results went into a global model, rounds after `last_round` left out."""
    rows = database.select(
        "SELECT client, count(*) FROM results WHERE round BETWEEN 1 AND ? GROUP BY client", last_round
    )
    return dict(rows.fetchall())


def _attempts(database: Database) -> list[tuple[int, pb.Plan, int, int | None]]:
    """Return how often clients' work was given out: client, plan, how often, and the client's training examples.

    These are None as long as none of its results has told.
    """
    rows = database.select(
        "SELECT client, plan, sum(attempt), (SELECT max(examples) FROM results r WHERE r.client = a.client) "
        "FROM assignments a WHERE attempt > 0 GROUP BY client, plan ORDER BY client"
    )
    return [(client, pb.Plan.FromString(plan), times, examples) for client, plan, times, examples in rows]
