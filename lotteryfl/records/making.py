"""From a finished run to its record: through what only looks at a run directory."""

from pathlib import Path

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.owncode.sourceversion import SourceVersion
from lotteryfl.common.security.identity import name_of
from lotteryfl.common.wire.localcode import version_digest
from lotteryfl.records.curves import brief, rounds_of
from lotteryfl.records.placeless import told
from lotteryfl.records.protocols import protocol_name
from lotteryfl.records.record import MOST_CLIENTS, Clients, Judged, Record, Scores, Shared, Spent
from lotteryfl.records.versions import made_here, strategy_sha256
from lotteryfl.server.results.reporting.data import RunData, read_run
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.codeversion import local_version, task_version
from lotteryfl.server.store.rundir import RunDirectory, inspected

_IN_ONE_PROCESS = {"simulate"}
"""By which name that works."""


def record_of(path: Path) -> Record:
    """Return the record of the run in a run directory, once all of it was verified.

    Raises:
        LotteryFLError: there is no run, it has not finished, or it is not sound.
    """
    with inspected(path) as run:
        if run.state != "finished":
            raise LotteryFLError(f"{path}: the run has not finished (it is {run.state}): expected one that has")
    if problems := verify(path).problems:
        raise LotteryFLError(
            f"{path}: is not sound, {problems} problem{'s'[: problems > 1]}: `lotteryfl verify {path}` names them"
        )
    data = read_run(path)
    with inspected(path) as run:
        return _record(run, data)


def hides_clients(experiment: Experiment) -> bool:
    """Tell whether what is known of single clients stays with the run: a promise is made, or they are somebody's."""
    return experiment.privacy.is_promised or bool(experiment.access.workers)


def _record(run: RunDirectory, data: RunData) -> Record:
    experiment, database = run.experiment, run.database
    public = told(experiment)
    workers = {name_of(worker) for (worker,) in database.select("SELECT DISTINCT worker FROM assignments")} - {""}
    table = run.model_table
    return Record(
        lotteryfl_record=1,
        protocol=protocol_name(public.experiment),
        experiment=public.experiment,
        withheld=public.withheld,
        made=made_here(),
        strategy_sha256=strategy_sha256(experiment.strategy.name),
        task_sha256=_digest(task_version(run)),
        local_sha256=_digest(local_version(run)),
        initial_sha256=database.get("initial_from_sha256"),
        parameters=sum(spec.numel for spec in table.model),
        prunable=sum(spec.numel for spec in table.model if spec.prunable),
        judged=Judged(name=run.score.name, higher_is_better=run.score.higher_is_better, own=run.score.own),
        scores=_scores(data, hides=hides_clients(experiment)),
        density=brief(data.spread([client.density for client in data.clients]).mean),
        down=int(data.down.sum()),
        up=int(data.rounds.up.sum()),
        workers=0 if workers == _IN_ONE_PROCESS else len(workers),
        seconds=round(float(data.rounds.seconds.sum()), 1),
        left_out=len(data.left_out),
        privacy=_spent(run),
        bits_depend_on="attendance" if database.went_by_attendance() else "",
        rounds=rounds_of(data),
        shared=_shared(data),
        clients=None if hides_clients(experiment) else _clients(data),
        model_sha256=database.get("model_sha256"),
        tickets_sha256=run.tickets_sha256(),
    )


def _digest(version: SourceVersion) -> str:
    return version_digest(version)


def _scores(run: RunData, *, hides: bool) -> Scores:
    rounds, best = run.rounds, run.score.best
    shared, shared_best = run.shared()
    new_downloaded, new_personalised = run.newcomers()
    return Scores(
        personalised=brief(rounds.personalised[-1]),
        personalised_best=brief(best(rounds.personalised.tolist())),
        downloaded=brief(rounds.downloaded[-1]),
        downloaded_best=brief(best(rounds.downloaded.tolist())),
        worst_tenth=None if hides else brief(run.worst_decile()),
        on_global=_known(run.globally()),
        shared=_known(shared),
        shared_best=_known(shared_best),
        new_downloaded=None if hides else _known(new_downloaded),
        new_personalised=None if hides else _known(new_personalised),
    )


def _known(value: float) -> float | None:
    return None if value != value else brief(value)  # nan is what was not measured


def _shared(run: RunData) -> Shared | None:
    if run.curve is None:
        return None
    score = run.curve.values[run.score.name]
    return Shared(round=tuple(map(int, run.curve.rounds)), score=tuple(map(brief, score)))


def _clients(run: RunData) -> Clients | None:
    if len(run.clients) > MOST_CLIENTS:
        return None
    return Clients(
        client=tuple(client.client for client in run.clients),
        downloaded=tuple(brief(client.score_downloaded) for client in run.clients),
        personalised=tuple(brief(client.score_personalised) for client in run.clients),
        density=tuple(brief(client.density) for client in run.clients),
    )


def _spent(run: RunDirectory) -> Spent | None:
    query = "SELECT epsilon, delta FROM rounds WHERE state = 'committed' AND epsilon IS NOT NULL ORDER BY round DESC"
    found = run.database.select(query).fetchone()
    return Spent(epsilon=brief(found[0]), delta=found[1]) if found else None
