"""A run's record: run.db and experiment.toml of a run directory, without its tensors.

Imports neither torch nor numpy: `lotteryfl status DIR` reads no more than this.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

from google.protobuf.message import DecodeError

from lotteryfl.common.errors import LotteryFLError, PayloadError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.names import Digest
from lotteryfl.server.store.binding import bound_experiment
from lotteryfl.server.store.findruns import is_run, require_run
from lotteryfl.server.store.rundb.database import Database

UNREADABLE = (OSError, sqlite3.Error, DecodeError, ValueError, TypeError, ArithmeticError, LookupError, RuntimeError)
"""What comes of reading a run directory that is damaged: SQLite hands out whatever its file holds, of any type."""

SETUP = ".setup"
"""Where it is and run.db is not, what else is in its folder is a set-up's that was not finished, and can go."""


class RunRecord:
    """An open run.db, and the experiment beside it."""

    def __init__(self, path: Path, *, read_only: bool = True) -> None:
        """Open the record of a run directory.

        Raises:
            LotteryFLError: there is no run, or it is damaged.
        """
        if not is_run(path) and (path / SETUP).exists():
            raise LotteryFLError(f"{path}: was never finished being set up: start its experiment there again")
        require_run(path)
        require_no_links(path)
        self.path = path
        with ExitStack() as opened:
            self._open(opened, read_only=read_only)
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack, *, read_only: bool) -> None:
        """Open what is closed with the record."""
        self.database = opened.enter_context(closing(Database(self.path / "run.db", read_only=read_only)))
        self._require_set_up()
        self.score = self.database.score
        self.experiment = self._bound_experiment()

    def _require_set_up(self) -> None:
        try:
            table = self.database.get("table")
        except (sqlite3.Error, ValueError) as error:
            raise LotteryFLError(f"{self.path / 'run.db'}: cannot be read: {error}") from error
        if not table:  # an earlier version gave run.db its name before it was whole
            raise LotteryFLError(f"{self.path}: was never finished being set up: delete it, or choose another one")

    def _bound_experiment(self) -> Experiment:
        try:
            return bound_experiment(self.path, self.database)
        except sqlite3.Error as error:
            raise LotteryFLError(f"{self.path / 'run.db'}: cannot be read: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def run_id(self) -> str:
        """What tells this run from every other, of the same experiment too."""
        return self.database.get("run_id")

    @property
    def state(self) -> str:
        """Where the run stands: running, finished or failed."""
        return self.database.get("state")

    @property
    def initial_digest(self) -> Digest:
        """SHA-256 of θ_0's file."""
        return Digest(self.database.get("initial_digest"))

    @property
    def model_digest(self) -> Digest:
        """SHA-256 of the global model's file."""
        return Digest(self.database.get("model_digest"))

    @property
    def model_round(self) -> int:
        """The round whose aggregation made the current global model; 0: it is θ_0."""
        return int(self.database.get("model_round", "0"))

    @property
    def best_round(self) -> int | None:
        """The round whose aggregation made the best global model so far; None: it is not kept, or not known yet."""
        kept = self.database.get("best_round")
        return int(kept) if kept else None


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Say of a run directory that it is damaged, where the block finds that it cannot be read.

    Raises:
        LotteryFLError: what the block reads of it is damaged.
    """
    try:
        yield
    except (PayloadError, *UNREADABLE) as error:
        what = str(error) if isinstance(error, PayloadError) else f"{type(error).__name__}: {error}"
        raise LotteryFLError(f"{path}: is damaged ({what}): `lotteryfl verify` names where") from error


@contextmanager
def looked_at(path: Path) -> Iterator[RunRecord]:
    """Open the record of a run directory for one look: all that the block reads is of one moment.

    Raises:
        LotteryFLError: there is no run, or what the block reads of it is damaged.
    """
    with damage_named(path), RunRecord(path) as run, run.database.snapshot():
        yield run


def require_no_links(run: Path) -> None:
    """Refuse a run directory with links in it: what a run writes, deletes and sends to workers is its own.

    Raises:
        LotteryFLError: naming the first one.
    """
    for path in sorted(run.rglob("*")):
        if path.is_symlink():
            raise LotteryFLError(f"{path}: is a link: a run directory holds files and folders of its own only")
