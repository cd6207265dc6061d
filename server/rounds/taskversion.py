"""In which version of its task a run is: on record, so that nobody goes on with another one unnoticed."""

import json

from lotteryfl.common.errors import LotteryFLError, TaskVersionError
from lotteryfl.common.sourceversion import SourceVersion
from lotteryfl.common.tasks import Task
from lotteryfl.common.tasks.custom import version_of_task
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.rundir import RunDirectory

_KEY = "task_versions"
"""Of run.db: all versions that the run has had, newest last: of each the digests of its files."""


def task_version(run: RunRecord) -> SourceVersion:
    """Return in which version of its task a run is now; none: its task is built in, or it is not on record.

    Raises:
        LotteryFLError: the record is damaged.
    """
    versions = _versions(run)
    return versions[-1] if versions else SourceVersion()


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
    version, versions = version_of_task(task), _versions(run)
    if not version or (versions and versions[-1] == version):
        return
    if versions and not any_version:
        raise TaskVersionError(
            f"{run.path}: is the run of another version of task {task.name}: {versions[-1].difference(version)}; "
            "--any-task-version goes on with this one"
        )
    with run.database.transaction():
        run.database.put(_KEY, json.dumps([dict(each.files) for each in (*versions, version)]))


def _versions(run: RunRecord) -> list[SourceVersion]:
    text = run.database.get(_KEY)
    try:
        return [SourceVersion.from_json(json.dumps(each)) for each in json.loads(text)] if text else []
    except (TypeError, ValueError) as error:
        raise LotteryFLError(f"{run.path / 'run.db'}: {_KEY} cannot be read: {error}") from error
