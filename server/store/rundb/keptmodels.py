"""Global models of past rounds that a run keeps on purpose (`evaluation.keep`): which, with the digest of each."""

from lotteryfl.common.names import Digest
from lotteryfl.server.store.rundb.database import Database

_KEY = "kept_model_"
"""Begins the keys of run.db's table `run` that say so, before a round's number."""


def keep_model(database: Database, round_: int, digest: Digest) -> None:
    """Note that a round's model is to stay, in the transaction that commits the round."""
    database.put(f"{_KEY}{round_:04d}", digest)


def kept_models(database: Database) -> dict[int, Digest]:
    """Return by round the digests of the files of those models.

    Raises:
        ValueError: run.db has one of no round.
    """
    rows = database.select("SELECT key, value FROM run WHERE key GLOB ? ORDER BY key", f"{_KEY}*")
    return {int(key.removeprefix(_KEY)): Digest(value) for key, value in rows}


def forget_model(database: Database, round_: int) -> None:
    """Note that a round's model stays no longer; its file can then go."""
    database.change("DELETE FROM run WHERE key = ?", [(f"{_KEY}{round_:04d}",)])
