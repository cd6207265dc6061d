"""Whether a run directory is well: its record, its permissions, its file system, and room for what is to come."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from lotteryfl.common.disk.privatefiles import is_open
from lotteryfl.tending.doctor.check import Check, close_command, looked
from lotteryfl.tending.doctor.experiment import checks_of_work
from lotteryfl.tending.doctor.machine import disk

_MOUNTS = Path("/proc/mounts")
_DOUBTFUL = ("nfs", "cifs", "smb", "9p", "fuse", "overlay", "tmpfs")
"""Kinds of file systems that do less than a run needs, or are gone with a container or a boot."""
_MARGIN = 2


def checks_of_run(path: Path, tasks: Sequence[str] | None = None) -> Iterator[Check]:
    """Look at a run directory.

    Args:
        path: the directory.
        tasks: of the user's own that are allowed here; None: neither task nor data are looked at.
    """
    yield from looked("run", partial(_record, path, tasks), "`lotteryfl verify` names where")
    yield from looked("permissions", partial(_permissions, path))
    yield from looked("file system", partial(_file_system, path))


def _record(path: Path, tasks: Sequence[str] | None) -> Iterator[Check]:
    from lotteryfl.server.results.verify import check_records
    from lotteryfl.server.store.findruns import require_run
    from lotteryfl.server.store.rundir import inspected

    require_run(path)
    report = check_records(path)
    if report.problems:
        problems = [str(problem) for group in report.groups for problem in group.problems]
        yield Check("fail", "run", f"{report.problems} problems, as {problems[0]}", "`lotteryfl verify` names all")
        return
    with inspected(path) as run:
        state = f"{run.state}{', being run' if report.is_being_run else ''}"
        rounds = run.database.committed_rounds()
        if run.state == "failed":
            yield Check("warn", "run", f"failed: {run.database.get('reason')}", f"go on with `lotteryfl run {path}`")
        else:
            yield Check("ok", "run", f"{state}, {rounds} of {run.experiment.rounds + 1} rounds committed")
        left = len(run.leftovers())
        if left and not report.is_being_run:
            yield Check("warn", "leftovers", f"{left} files that nothing refers to", f"`lotteryfl clean {path}`")
        if run.state != "finished":
            wanted = (run.experiment.clients_per_round + _MARGIN) * run.table.nbytes
            yield disk("room for a round", path, wanted)
            if tasks is not None:
                yield from checks_of_work(run.experiment, tasks)


def _permissions(path: Path) -> Iterator[Check]:
    if is_open(path):
        found = "others of this machine can read it, who learn what it knows"
        yield Check("warn", "permissions", found, close_command(path))
    else:
        yield Check("ok", "permissions", "its owner's alone")


def _file_system(path: Path) -> Iterator[Check]:
    kind = _kind_of(path.resolve())
    if kind.startswith(_DOUBTFUL):
        advice = "docs/reliability.md says what a file system must do; in a container give it a volume"
        yield Check("warn", "file system", f"{path} is on {kind}", advice)
    elif kind:
        yield Check("ok", "file system", kind)


def _kind_of(path: Path) -> str:
    """Return the kind of the file system that a path is on, as Linux names it; '': it is not known."""
    if not _MOUNTS.exists():
        return ""
    mounts = [line.split() for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()]
    over = [(len(where), kind) for _, where, kind, *_ in mounts if path.is_relative_to(where)]
    return max(over)[1] if over else ""
