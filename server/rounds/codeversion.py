"""In which version of people's own code a run is: on record, so that nobody goes on with another one unnoticed."""

import json

from lotteryfl.common.errors import ExperimentError, LocalVersionError, LotteryFLError, TaskVersionError
from lotteryfl.common.owncode.sourceversion import SourceVersion
from lotteryfl.common.tasks import Task
from lotteryfl.common.tasks.custom import version_of_task
from lotteryfl.common.text import quoted
from lotteryfl.common.wire.localcode import misfit, version_digest
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies.base import Strategy

_TASK, _LOCAL = "task_versions", "local_versions"
"""Of run.db: all versions that the run has had, newest last: of each the digests of its files."""


def task_version(run: RunRecord) -> SourceVersion:
    """Return in which version of its task a run is now; none: its task is built in, or it is not on record.

    Raises:
        LotteryFLError: the record is damaged.
    """
    return _last(_versions(run, _TASK))


def local_version(run: RunRecord) -> SourceVersion:
    """Return in which version of its local algorithm a run is now; none: it has none, or it is not on record.

    Raises:
        LotteryFLError: the record is damaged.
    """
    return _last(_versions(run, _LOCAL))


def bind_task(run: RunDirectory, task: Task, *, any_version: bool = False) -> None:
    """Hold a run that is taken up to the version of its task; one that has none on record has this one from now on.

    Args:
        run: the open run directory.
        task: of its experiment.
        any_version: another version is the run's from now on.

    Raises:
        TaskVersionError: it is another one.
        LotteryFLError: the record is damaged.
    """
    if difference := _bound(run, _TASK, version_of_task(task), any_version=any_version):
        raise TaskVersionError(
            f"{run.path}: is the run of another version of task {task.name}: {difference}; "
            "--any-task-version goes on with this one, another --run-dir begins anew"
        )


def bind_local(run: RunDirectory, name: str, version: SourceVersion, *, any_version: bool = False) -> None:
    """Hold a run to the version of its local algorithm, as `bind_task` does to that of its task.

    Args:
        run: the open run directory.
        name: of the algorithm.
        version: that is here.
        any_version: another version is the run's from now on.

    Raises:
        LocalVersionError: it is another one.
        LotteryFLError: the record is damaged.
    """
    if difference := _bound(run, _LOCAL, version, any_version=any_version):
        raise LocalVersionError(
            f"{run.path}: is the run of another version of local algorithm {name}: {difference}; "
            "--any-local-version goes on with this one"
        )


def check_local(plan: pb.Plan, strategy: Strategy) -> None:
    """Check that a plan names no other local algorithm than its strategy, and gives it a place.

    Raises:
        ExperimentError: it does, or does not.
    """
    if not plan.HasField("local"):
        return
    who = f"strategy.name = {strategy.name!r}"
    if plan.local.name != strategy.local:
        raise ExperimentError(
            f"{who}: a plan names local algorithm {quoted(plan.local.name)}: expected that of its class, "
            f"local = {strategy.local!r}"
        )
    stacked = strategy.experiment.engine.stacked
    if reason := misfit(plan) or (f"is trained with others (engine.stacked = {stacked})" if stacked else ""):
        raise ExperimentError(f"{who}: a plan with local algorithm {strategy.local!r} {reason}: expected one of them")


def local_code(run: RunRecord, strategy: Strategy) -> pb.LocalVersion | None:
    """Return which local algorithm a run's plans name, and its version; None: they name none.

    Raises:
        LotteryFLError: the record is damaged.
    """
    if not strategy.local:
        return None
    return pb.LocalVersion(name=strategy.local, version_json=local_version(run).to_json())


def as_told(plan: pb.Plan, run: RunRecord) -> pb.Plan:
    """Return a plan as it is told to a worker: with the digest of its local algorithm, as the run has it."""
    if not plan.HasField("local"):
        return plan
    told = pb.Plan()
    told.CopyFrom(plan)
    told.local.digest = version_digest(local_version(run))
    return told


def _bound(run: RunDirectory, key: str, version: SourceVersion, *, any_version: bool) -> str:
    """Put a version on record where there is none, or any is allowed; say in what it differs where it may not."""
    versions = _versions(run, key)
    if not version or (versions and versions[-1] == version):
        return ""
    if versions and not any_version:
        return versions[-1].difference(version)
    with run.database.transaction():
        run.database.put(key, json.dumps([dict(each.files) for each in (*versions, version)]))
    return ""


def _last(versions: list[SourceVersion]) -> SourceVersion:
    return versions[-1] if versions else SourceVersion()


def _versions(run: RunRecord, key: str) -> list[SourceVersion]:
    text = run.database.get(key)
    try:
        return [SourceVersion.from_json(json.dumps(each)) for each in json.loads(text)] if text else []
    except (TypeError, ValueError) as error:
        raise LotteryFLError(f"{run.path / 'run.db'}: {key} cannot be read: {error}") from error
