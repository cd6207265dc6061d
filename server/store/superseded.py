"""What the commit of a round leaves without use, found among what the round and its clients have alone."""

from pathlib import Path

from lotteryfl.common.names import Digest, FileName
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import is_tensor_file

_CLIENTS = "assignments CROSS JOIN clients USING (client)"
"""In this order, so that no other clients are looked at."""


class Superseded:
    """The files that a round may replace, as they are before it is committed.

    A result's file is one client's, by its name: if that client has another ticket afterwards, nobody needs it.
    """

    def __init__(self, run: RunDirectory, round_: int) -> None:
        """Note what there is.

        Args:
            run: the run directory.
            round_: that is open, and will be committed next.
        """
        self._run = run
        self._round = round_
        self._models = run.model_files()
        self._results = _results(run.database, round_)
        self._masks = _masks(run.database, round_) | {run.shared_mask.digest}

    def dropped(self) -> list[Path]:
        """Delete the masks that nothing needs now that the round is committed; return the other files, still there."""
        run = self._run
        run.drop_masks(self._masks)
        results = self._results - _tickets(run.database, self._round)
        return [*(run.path / name for name in sorted(results)), *sorted(self._models - run.model_files())]


def _results(database: Database, round_: int) -> set[FileName]:
    """Return the results of a round, what its clients began with, and their tickets."""
    rows = database.select(
        "SELECT file FROM results WHERE round = :round UNION SELECT source FROM assignments WHERE round = :round "  # noqa: S608
        f"UNION SELECT own FROM assignments WHERE round = :round UNION SELECT ticket FROM {_CLIENTS} "
        "WHERE round = :round",
        round=round_,
    )
    return {name for (name,) in rows if is_tensor_file(name) and name.startswith("results/")}


def _masks(database: Database, round_: int) -> set[Digest]:
    """Return the masks of a round's results and of its clients."""
    rows = database.select(
        f"SELECT mask FROM results WHERE round = :round UNION SELECT clients.mask FROM {_CLIENTS} "  # noqa: S608
        "WHERE round = :round",
        round=round_,
    )
    return {mask for (mask,) in rows}


def _tickets(database: Database, round_: int) -> set[FileName]:
    return {ticket for (ticket,) in database.select(f"SELECT ticket FROM {_CLIENTS} WHERE round = ?", round_)}  # noqa: S608
