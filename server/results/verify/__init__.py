"""Verification of a run directory: reads everything that the run still needs, and changes nothing."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from lotteryfl.common.disk.privatefiles import is_open
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.wire.maskcoding import require_coder
from lotteryfl.server.results.verify.records import (
    check_clients,
    check_database,
    check_experiment,
    check_history,
    check_references,
    check_rounds,
)
from lotteryfl.server.results.verify.report import Group, Report
from lotteryfl.server.results.verify.tensors import (
    check_folders,
    check_masks,
    check_models,
    check_results,
    check_summary,
)
from lotteryfl.server.store.findruns import require_run
from lotteryfl.server.store.record import require_no_links
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundir import FOLDERS, RunDirectory, inspected
from lotteryfl.server.store.runlock import is_being_run

_Checks = dict[str, Callable[[Group, RunDirectory], None]]

_RECORDS: _Checks = {
    "references": check_references,
    "rounds": check_rounds,
    "clients": check_clients,
    "history": check_history,
}
"""In this order, until one is not sound: what comes after would only repeat it."""

_FILES: _Checks = {"folders": check_folders, "models": check_models, "masks": check_masks}

_KNOWN = {*FOLDERS, "logs", "experiment.toml", "run.db", "run.db-shm", "run.db-wal", "run.lock", "summary.json"}

_EARLIER_SUMMARY = "summary-*.json"
"""Of a run that was made longer."""


def verify(path: Path) -> Report:
    """Check a run directory, whether the run has finished, was interrupted or is being worked on.

    Tensors are mapped and looked at one by one; in memory are one tensor, and the packed masks of one client.

    Raises:
        LotteryFLError: there is no run, or somebody took it up meanwhile.
    """
    require_run(path)
    require_no_links(path)
    report = Report(path, is_being_run(path), is_open=is_open(path))
    _check_foundations(report)
    if report.problems:
        report.skipped = [*_RECORDS, *_FILES, "results", "summary"]
    else:
        with RunDirectory(path, read_only=True) as run, run.database.snapshot():
            require_coder(run.experiment.mask_coding)
            _check_contents(report, run)
            if not report.problems:  # or what is in use could be taken for a leftover
                known = _KNOWN | {file.name for file in path.glob(_EARLIER_SUMMARY)}
                others = {file for file in path.iterdir() if file.name not in known}
                report.leftovers = sorted(str(file.relative_to(path)) for file in run.leftovers() | others)
        if report.is_being_run:
            _forget_replaced(report)
    if not report.is_being_run and is_being_run(path):
        raise LotteryFLError(f"{path}: was taken up while it was looked at; verify it again")
    return report


def check_records(path: Path) -> Report:
    """Check of a run directory only what its record says, as far as that needs no tensors.

    Raises:
        LotteryFLError: there are links in it.
    """
    require_no_links(path)
    report = Report(path, is_being_run(path))
    _check_foundations(report)
    if not report.problems:
        with RunDirectory(path, read_only=True) as run, run.database.snapshot():
            _check_records(report, run)
    return report


def _check_foundations(report: Report) -> None:
    """Check what everything else is read by."""
    with (
        report.group("database") as group,
        closing(Database(report.path / "run.db", read_only=True)) as database,
        database.snapshot(),
    ):
        check_database(group, database)
        if group.is_sound:
            with report.group("experiment") as group:
                check_experiment(group, report.path, database)


def _check_records(report: Report, run: RunDirectory) -> None:
    for name, check in _RECORDS.items():
        if report.problems:
            report.skipped.append(name)
        else:
            with report.group(name) as group:
                check(group, run)


def _check_contents(report: Report, run: RunDirectory) -> None:
    _check_records(report, run)
    for name, check in _FILES.items():
        with report.group(name) as group:
            check(group, run)
    broken = {problem.where for group in report.groups for problem in group.problems}
    with report.group("results") as group:
        check_results(group, run, broken)
    if report.problems:
        report.skipped.append("summary")
    else:
        with report.group("summary") as group:
            check_summary(group, run)


def _forget_replaced(report: Report) -> None:
    """Drop problems with files that a commit meanwhile has replaced and deleted."""
    with inspected(report.path) as run:
        in_use = run.files_in_use()
    files = tuple(f"{folder}/" for folder in FOLDERS)
    for group in report.groups:
        group.problems = [p for p in group.problems if report.path / p.where in in_use or not p.where.startswith(files)]
