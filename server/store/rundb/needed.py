"""The result files and masks that a run still needs, as queries of run.db."""

from lotteryfl.common.names import Digest, FileName
from lotteryfl.server.store.rundb.database import Database


def files_in_use(database: Database) -> tuple[set[FileName], set[Digest]]:
    """Return the result files and the mask digests that the run still needs."""
    files = database.select(
        "SELECT ticket FROM clients UNION SELECT file FROM results JOIN rounds USING (round) WHERE state = 'open'"
        " UNION SELECT source FROM assignments JOIN rounds USING (round) WHERE rounds.state = 'open'"
        " UNION SELECT own FROM assignments JOIN rounds USING (round) WHERE rounds.state = 'open'"
    )
    masks = database.select(
        "SELECT mask FROM clients UNION SELECT results.mask FROM results JOIN rounds USING (round) "
        "WHERE state = 'open' UNION SELECT value FROM run WHERE key = 'shared_mask'"
    )
    return {file for (file,) in files}, {mask for (mask,) in masks}


def needs_mask(database: Database, digest: Digest) -> bool:
    """Tell whether `files_in_use` names the mask; no other clients and no earlier rounds are looked at."""
    found = database.select(
        "SELECT EXISTS (SELECT 1 FROM run WHERE key = 'shared_mask' AND value = ?1) "
        "OR EXISTS (SELECT 1 FROM results WHERE mask = ?1 AND round = "
        "(SELECT round FROM rounds WHERE state = 'open' AND round = (SELECT max(round) FROM rounds))) "
        "OR EXISTS (SELECT 1 FROM clients WHERE mask = ?1)",
        digest,
    )
    return bool(found.fetchone()[0])
