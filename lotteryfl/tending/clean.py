"""What of a run directory could go: nothing that verify, going on, or an export would miss."""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lotteryfl.common.disk.atomicfile import PART
from lotteryfl.common.disk.folders import sync_folder
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.settings import EvaluationSettings
from lotteryfl.server.results.verify import check_records
from lotteryfl.server.store.findruns import runs_in
from lotteryfl.server.store.record import SETUP
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.keptmodels import forget_model, kept_models
from lotteryfl.server.store.rundir import RunDirectory, cannot_be_written, inspected
from lotteryfl.server.store.runlock import is_being_run, lock
from lotteryfl.server.store.setupmark import clear, is_set_up

_PART = re.compile(rf"\.run\.db\.part(-wal|-shm)?|{PART.pattern}", re.ASCII)
"""Names that a file has before it is whole."""
_OF_SET_UP = re.compile(
    r"\.setup|run\.lock|experiment\.toml|models|masks|results|(models|masks)/[\w-]+\.safetensors", re.ASCII
)
"""What a set-up makes, by its place in the folder."""
_BACKUP = re.compile(r".+(\.bak\d*|\.orig|\.old|~)")
"""Names that people and editors give to copies; a run makes none."""


@dataclass(frozen=True)
class Rule:
    """What is to go beside what nothing refers to."""

    keep: str = ""
    """Of the models that `evaluation.keep` has kept, those that stay, as it says it; '': all."""
    older_than: float = 0.0
    """Seconds since its last change before which nothing goes; from then on backups go too, where it is not 0."""


class Removable(NamedTuple):
    """A file, or the folder of a set-up, that could go."""

    path: Path
    nbytes: int
    why: str
    model: int = 0
    """The round whose kept model it is; 0: it is none."""


@dataclass(frozen=True)
class Found:
    """What of one folder could go."""

    path: Path
    removable: list[Removable] = field(default_factory=list)
    left_alone: str = ""
    """Why nothing is looked at here; '': it is."""

    @property
    def nbytes(self) -> int:
        """All together."""
        return sum(each.nbytes for each in self.removable)


def folders(paths: tuple[Path, ...]) -> list[Path]:
    """Return the run directories among folders and right under them, set-ups that were never finished among them.

    Raises:
        LotteryFLError: a folder has none.
    """
    found: list[Path] = []
    for path in paths:
        inside = runs_in(path, _is_run)
        if not inside:
            raise LotteryFLError(f"{path}: is no run directory, and has none in it")
        found += inside
    return list(dict.fromkeys(found))


def could_go(path: Path, rule: Rule) -> Found:
    """Say what of a run directory could go; changes nothing."""
    why = _not_ours(path)
    return Found(path, left_alone=why) if why else _found(path, rule)


def let_go(path: Path, rule: Rule) -> Found:
    """Remove what could go, while nobody else can run the run; return what did.

    Raises:
        LotteryFLError: it cannot be removed, or somebody takes the run up at this moment.
    """
    if why := _not_ours(path):
        return Found(path, left_alone=why)
    try:
        with lock(path):
            found = _found(path, rule)
            _remove(found)
    except OSError as error:
        raise cannot_be_written(path, error) from error
    return found


def _is_run(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and (is_set_up(path) or (path / SETUP).exists())


def _not_ours(path: Path) -> str:
    """Say why nothing of a folder may go, whatever is in it; '': it may.

    A set-up that was never finished goes with its folder: one that holds anything else is somebody's own.
    """
    if is_being_run(path):
        return "is being run"
    if is_set_up(path):
        return ""
    others = (file for file in sorted(path.rglob("*")) if file.is_symlink() or not _is_of_set_up(file, path))
    other = next(others, None)
    return f"has {other.relative_to(path)}, which no set-up makes" if other else ""


def _is_of_set_up(file: Path, path: Path) -> bool:
    return _is_part(file) or _OF_SET_UP.fullmatch(str(file.relative_to(path))) is not None


def _found(path: Path, rule: Rule) -> Found:
    old = _is_old(rule.older_than)
    if not is_set_up(path):
        nbytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        removable = [Removable(path, nbytes, "a set-up that was never finished")] if old(path / SETUP) else []
        return Found(path, removable)
    try:
        if check_records(path).problems:  # then what is in use could be taken for a leftover
            return Found(path, left_alone="is damaged: `lotteryfl verify` names where")
        with inspected(path) as run:
            removable = [each for each in _of_run(run, rule) if old(each.path)]
    except LotteryFLError as error:
        return Found(path, left_alone=str(error).removeprefix(f"{path}: "))
    return Found(path, removable)


def _of_run(run: RunDirectory, rule: Rule) -> Iterator[Removable]:
    for file in sorted(run.leftovers()):
        if file.is_file():
            yield _removable(file, "being written when its process ended" if _is_part(file) else "nothing refers to it")
    for file in sorted(run.path.iterdir()):
        if file.is_file() and _is_part(file):
            yield _removable(file, "being written when its process ended")
        elif file.is_file() and rule.older_than and _BACKUP.fullmatch(file.name):
            yield _removable(file, "a backup")
    for round_ in _not_kept(run, rule):
        why = f"the model of round {round_}, beyond --keep {rule.keep!r}"
        yield _removable(run.model_path(round_), why, round_)


def _not_kept(run: RunDirectory, rule: Rule) -> list[int]:
    """Return the rounds whose models are kept, and need not be; the newest, the best and θ_0 always stay."""
    if not rule.keep:
        return []
    keeps = EvaluationSettings(keep=rule.keep).keeps
    needed = {0, run.model_round, run.best_round}
    there = (round_ for round_ in kept_models(run.database) if round_ not in needed and not keeps(round_))
    return [round_ for round_ in there if run.model_path(round_).is_file()]


def _removable(file: Path, why: str, model: int = 0) -> Removable:
    return Removable(file, file.stat().st_size, why, model)


def _is_part(file: Path) -> bool:
    return _PART.fullmatch(file.name) is not None


def _is_old(seconds: float) -> Callable[[Path], bool]:
    now = time.time()
    return lambda path: now - path.stat().st_mtime >= seconds


def _remove(found: Found) -> None:
    if not is_set_up(found.path):
        if found.removable:
            clear(found.path)
            shutil.rmtree(found.path)
        return
    _forget(found.path, [each.model for each in found.removable if each.model])
    gone = {each.path for each in found.removable}
    for file in gone:
        file.unlink(missing_ok=True)
    for folder in {file.parent for file in gone}:
        sync_folder(folder)


def _forget(path: Path, rounds: Sequence[int]) -> None:
    """Take models that go off the record, on disk before their files are: verify misses no file that is gone."""
    if not rounds:
        return
    with closing(Database(path / "run.db")) as database, database.transaction():
        for round_ in rounds:
            forget_model(database, round_)
