"""What a run has come to: summary.json."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.spread import spread
from lotteryfl.server.store.globalcurve import global_curve
from lotteryfl.server.store.refusals import Refusals
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import model_file
from lotteryfl.server.store.summaries import (
    ClientSummary,
    client_summaries,
    measured,
    most_left_out,
    new_clients,
    round_summaries,
    scores_of,
)
from lotteryfl.server.store.traffic import Traffic


class Accuracy(TypedDict):
    """Test accuracies in [0, 1]: `last` and `best` are means over clients, the others see `Spread`, over clients too.

    `global` is the personalised models' on the task's global test data, None where that was not measured.
    """

    downloaded_last: float
    downloaded_std: float
    downloaded_worst_decile: float
    downloaded_best: float
    personalised_last: float
    personalised_std: float
    personalised_worst_decile: float
    personalised_best: float
    global_last: float | None
    global_std: float | None


class OwnScore(Accuracy):
    """The same by the score that the task's own objective names."""

    name: str
    higher_is_better: bool


class Judged(TypedDict):
    """What the models are worth: by accuracy, or by what the task's own objective measures."""

    accuracy: NotRequired[Accuracy]
    score: NotRequired[OwnScore]
    values: NotRequired[dict[str, dict[str, float]]]
    """By phase (downloaded, personalised, global) and name: means over clients after the last round, the loss too."""


class Density(TypedDict):
    """Kept share of the prunable weights in [0, 1], over clients."""

    mean: float
    std: float


class Bytes(TypedDict):
    """All that was sent of tensors, frames included: to the workers (θ_0 too, once to each) and from them."""

    down: int
    up: int


class Refused(TypedDict):
    """Results that were refused, and the workers that were put aside for theirs."""

    results: int
    by_worker: dict[str, int]
    aside: list[str]


class LeftOut(TypedDict):
    """A client that sat rounds out: how many, and which and why the last time."""

    client: int
    rounds: int
    last: int
    reason: str


class Privacy(TypedDict):
    """What is promised of every client's part in the run, or of every example's (docs/privacy.md)."""

    protects: Literal["client", "example"]
    epsilon: float
    delta: float


class BestModel(TypedDict):
    """The global model that is kept as the best by the mean score of the clients that downloaded it."""

    round: int
    """Whose aggregation made it; 0: θ_0."""
    score: float
    file: str


class Progress(TypedDict):
    """Where the experiment asks for it: the best model, and the round after which training ended early."""

    best_model: NotRequired[BestModel]
    ended_early: NotRequired[int]


class Curve(TypedDict):
    """Where the experiment asks for it: the shared model on the task's global test data."""

    global_curve: NotRequired[list[dict[str, float]]]
    """By measurement: `round`, after which it was so (0: θ_0), `examples`, and all that was measured, by name."""


class NewClients(TypedDict):
    """Clients that took part in no round, by the score, in the last: means and spread over them alone."""

    clients: int
    downloaded: float
    downloaded_std: float
    personalised: float
    personalised_std: float


class Newcomers(TypedDict):
    """Where the experiment asks for it: what new clients make of the run's model."""

    new_clients: NotRequired[NewClients]


class Dealt(TypedDict):
    """Where an index file says who holds what."""

    partition_sha256: NotRequired[str]
    """The file's."""


class Computed(TypedDict):
    """Where clients have trained as one model: then digests are to be held against those of such runs alone."""

    engine: NotRequired[str]
    """As "stacked 8"."""


class Circumstance(TypedDict):
    """Where a strategy goes by who is there: then digests are of this very run, and to be held against no other's."""

    bits_depend_on: NotRequired[Literal["attendance"]]


class Summary(Judged, Progress, Curve, Newcomers, Dealt, Computed, Circumstance):
    """summary.json. `last` is measured on every client after the last round, `best` over all rounds."""

    strategy: str
    rounds: int
    clients: int
    seed: int
    density: Density
    bytes: Bytes
    refused: Refused
    left_out: list[LeftOut]
    """At most 100 clients, those that sat most rounds out, by number."""
    privacy: Privacy | None
    model_sha256: str
    tickets_sha256: str


def summarise(run: RunDirectory) -> Summary:
    """Return the summary of a finished run."""
    rounds = round_summaries(run.database)
    experiment = run.experiment
    clients = client_summaries(run.database, rounds[-1].round)
    density = spread([client.density for client in clients])
    traffic = Traffic(run.database)
    refused = list(_refusals(run))
    return Summary(
        strategy=experiment.strategy.name,
        rounds=experiment.rounds,
        clients=experiment.clients,
        seed=experiment.seed,
        **_judged(run, rounds, clients),
        density=Density(mean=density.mean, std=density.std),
        bytes=Bytes(down=traffic.down, up=traffic.up),
        refused=Refused(
            results=sum(worker.results for worker in refused),
            by_worker={worker.worker: worker.results for worker in refused},
            aside=[worker.worker for worker in refused if worker.aside],
        ),
        left_out=[
            LeftOut(client=missing.client, rounds=missing.rounds, last=missing.last, reason=missing.reason)
            for missing in most_left_out(run.database)
        ],
        privacy=_privacy(run, rounds[-1]),
        **_progress(run),
        **_curve(run),
        **_newcomers(run),
        **_dealt(run),
        **_computed(run),
        **_circumstance(run),
        model_sha256=run.database.get("model_sha256"),
        tickets_sha256=run.tickets_sha256(),
    )


def _judged(run: RunDirectory, rounds: Sequence[pb.RoundSummary], clients: Sequence[ClientSummary]) -> Judged:
    score = run.score
    by_round = [scores_of(summary, score) for summary in rounds]
    downloaded, personalised = (
        spread(values, higher_is_better=score.higher_is_better)
        for values in zip(*((client.score_downloaded, client.score_personalised) for client in clients), strict=True)
    )
    on_global = [client.score_global for client in clients if client.score_global is not None]
    globally = spread(on_global) if on_global else None
    found = Accuracy(
        downloaded_last=downloaded.mean,
        downloaded_std=downloaded.std,
        downloaded_worst_decile=downloaded.worst_decile,
        downloaded_best=score.best(each.downloaded for each in by_round),
        personalised_last=personalised.mean,
        personalised_std=personalised.std,
        personalised_worst_decile=personalised.worst_decile,
        personalised_best=score.best(each.personalised for each in by_round),
        global_last=None if globally is None else globally.mean,
        global_std=None if globally is None else globally.std,
    )
    if not score.own:
        return Judged(accuracy=found)
    own = OwnScore(name=score.name, higher_is_better=score.higher_is_better, **found)
    return Judged(score=own, values=measured(run.database, rounds[-1].round))


def _progress(run: RunDirectory) -> Progress:
    found = Progress()
    if run.best_round is not None:
        score = float(run.database.get("best_downloaded"))
        found["best_model"] = BestModel(round=run.best_round, score=score, file=model_file(run.best_round))
    if early := run.database.ended_early():
        found["ended_early"] = early
    return found


def _curve(run: RunDirectory) -> Curve:
    curve = global_curve(run.database)
    if not curve:
        return Curve()
    return Curve(global_curve=[{"round": point.round, "examples": point.examples, **point.values} for point in curve])


def _newcomers(run: RunDirectory) -> Newcomers:
    clients = new_clients(run.database, run.experiment.rounds + 1)
    if not clients:
        return Newcomers()
    downloaded = spread([client.score_downloaded for client in clients])
    personalised = spread([client.score_personalised for client in clients])
    return Newcomers(
        new_clients=NewClients(
            clients=len(clients),
            downloaded=downloaded.mean,
            downloaded_std=downloaded.std,
            personalised=personalised.mean,
            personalised_std=personalised.std,
        )
    )


def _dealt(run: RunDirectory) -> Dealt:
    sha256 = run.experiment.partition.sha256
    return Dealt(partition_sha256=sha256) if sha256 else Dealt()


def _computed(run: RunDirectory) -> Computed:
    engine = run.experiment.engine
    return Computed(engine=str(engine)) if engine.stacked else Computed()


def _circumstance(run: RunDirectory) -> Circumstance:
    return Circumstance(bits_depend_on="attendance") if run.database.went_by_attendance() else Circumstance()


def write_summary(run: RunDirectory) -> Path:
    """Write summary.json into the run directory, whole or not at all."""
    path = run.path / "summary.json"
    write_text(path, json.dumps(summarise(run), indent=2) + "\n")
    return path


def _privacy(run: RunDirectory, last: pb.RoundSummary) -> Privacy | None:
    if not last.HasField("epsilon"):
        return None
    protects: Literal["client", "example"] = "example" if run.experiment.privacy.dp_sgd else "client"
    return Privacy(protects=protects, epsilon=last.epsilon, delta=last.delta)


def _refusals(run: RunDirectory) -> Iterable[pb.WorkerRefusals]:
    return Refusals(run.database, run.experiment.checks.max_refusals).messages()
