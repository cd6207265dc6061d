"""run.db: the rounds, assignments, results and metrics of one run, changed only in whole transactions."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Literal

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.names import Digest, WorkerId
from lotteryfl.common.training.score import Score
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.assignments import AssignmentId, Standing
from lotteryfl.server.store.rundb.measures import score_column
from lotteryfl.server.store.rundb.migrations import RUN_DB, Versions, has_only_tables, version_of
from lotteryfl.server.store.rundb.rows import AssignmentRow, ClientRow, Received, ResultRow, Spent
from lotteryfl.server.store.rundb.transaction import transaction

_PHASES: dict[str, Literal["validation", "downloaded", "personalised", "global_test", "shared_model"]] = {
    "validation": "validation",
    "downloaded": "downloaded",
    "personalised": "personalised",
    "global": "global_test",
    "shared": "shared_model",
}
"""By what run.db calls them, the evaluations of a result."""
_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ')"


class Database:
    """The queries of a run, by what they mean. One thread at a time may use it."""

    def __init__(self, path: Path, *, read_only: bool = False, versions: Versions = RUN_DB) -> None:
        """Open run.db, creating it where it is missing, and take one of an older version to the newest.

        Args:
            path: the file.
            read_only: change nothing of it: what is read of an older version is a copy, made now.
            versions: those that are read.

        Raises:
            LotteryFLError: the file is no run database, or one of another version or with other tables.
        """
        try:
            self._connection = _connect(f"{path.absolute().as_uri()}?{_mode(path, read_only=read_only)}")
            with ExitStack() as opened:
                opened.callback(self.close)
                self._prepare(path, versions, read_only=read_only)
                opened.pop_all()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise LotteryFLError(f"{path}: cannot be used as a run database: {error}") from error

    def _prepare(self, path: Path, versions: Versions, *, read_only: bool) -> None:
        """Make the tables where there are none; check that they are those of this program."""
        self._connection.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns, also the first
        version = version_of(self._connection)
        if version == 0 and not read_only:
            self._connection.execute("PRAGMA journal_mode = WAL")
            versions.create(self._connection)
            version = versions.newest
        if refusal := versions.refusal(version):
            raise LotteryFLError(f"{path}: {refusal}")
        if version < versions.newest:
            self._migrate(path, version, versions, read_only=read_only)
        self._connection.execute("PRAGMA foreign_keys = ON")
        if not versions.fits(self._connection):
            raise LotteryFLError(f"{path}: its tables are not those of version {version}")

    def _migrate(self, path: Path, version: int, versions: Versions, *, read_only: bool) -> None:
        if not has_only_tables(self._connection):
            raise LotteryFLError(f"{path}: its tables are not those of version {version}")
        if read_only:
            original, self._connection = self._connection, _connect("")  # a temporary file, which ends with it
            with closing(original):
                original.backup(self._connection)
        try:
            versions.migrate(self._connection)
        except sqlite3.Error as error:
            raise LotteryFLError(
                f"{path}: cannot be taken from version {version} to {versions.newest}: {error}"
            ) from error
        if read_only:
            self._connection.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        """Close the connection; what was not committed is rolled back."""
        self._connection.close()

    def gather(self) -> None:
        """Put all that was committed into the one file, on disk: it may then be renamed, once it is closed."""
        busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("another connection reads it")

    def transaction(self) -> AbstractContextManager[None]:
        """All of the block's changes reach the disk, or none."""
        return transaction(self._connection)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All of the block's reads see one moment of the run, whatever is written meanwhile."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            if self._connection.in_transaction:  # after some errors SQLite has rolled back by itself
                self._connection.execute("ROLLBACK")

    def select(self, query: str, *parameters: object, **named: object) -> sqlite3.Cursor:
        """Return the rows of a query that is nobody's but the caller's; its parameters have places or names."""
        return self._connection.execute(query, named or parameters)

    def change(self, query: str, rows: Iterable[Sequence[object]]) -> None:
        """Write by a query that is nobody's but the caller's, once for each row of parameters, in its transaction."""
        self._connection.executemany(query, rows)

    # -- the run

    def get(self, key: str, default: str = "") -> str:
        """Return a fact about the run."""
        (value,) = self._connection.execute("SELECT value FROM run WHERE key = ?", (key,)).fetchone() or (default,)
        return str(value)

    def put(self, key: str, value: str) -> None:
        """Set a fact about the run."""
        self._connection.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, value))

    @cached_property
    def score(self) -> Score:
        """What the run is judged by: set when the run is set up, and never again."""
        name, lower = self.get("score"), self.get("score_lower_is_better")
        return Score.of(name, higher_is_better=not lower)

    def put_score(self, score: Score) -> None:
        """Set what the run is judged by; of classification nothing is written."""
        if score.own:
            self.put("score", score.name)
        if not score.higher_is_better:
            self.put("score_lower_is_better", "1")

    @cached_property
    def participants(self) -> int:
        """How many clients take part in rounds that train, the first ones; the others are new in the last round."""
        return int(self.get("participants", "0")) or self._scalar("SELECT count(*) FROM clients")

    # -- clients

    def add_clients(self, count: int) -> None:
        """Add clients 0 … count-1, dense and without a ticket."""
        self._connection.executemany("INSERT INTO clients (client) VALUES (?)", ((k,) for k in range(count)))

    def put_first_mask(self, client: int, mask: Digest, density: float) -> None:
        """Let a client start under a mask of its own."""
        self._connection.execute("UPDATE clients SET mask = ?, density = ? WHERE client = ?", (mask, density, client))

    def clients(self) -> list[ClientRow]:
        """Return all clients, in order."""
        rows = self._connection.execute("SELECT client, mask, ticket, density FROM clients ORDER BY client")
        return [ClientRow(*row) for row in rows]

    def client(self, client: int) -> ClientRow:
        """Return one client."""
        query = "SELECT client, mask, ticket, density FROM clients WHERE client = ?"
        return ClientRow(*self._connection.execute(query, (client,)).fetchone())

    # -- rounds and assignments

    def committed_rounds(self) -> int:
        """Return how many rounds are committed."""
        return int(self._scalar("SELECT count(*) FROM rounds WHERE state = 'committed' AND round > 0"))

    def last_round(self) -> int:
        """Return the last round that is committed; 0: none. Training that ended early leaves out numbers before it."""
        return self._scalar("SELECT coalesce(max(round), 0) FROM rounds WHERE state = 'committed'")

    def ended_early(self) -> int:
        """Return the round after which `evaluation.patience` was at its end; 0: it was not."""
        return int(self.get("ended_early", "0"))

    def is_open(self, round_: int) -> bool:
        """Tell whether the round has been opened and not yet committed."""
        return bool(self._scalar("SELECT count(*) FROM rounds WHERE round = ? AND state = 'open'", round_))

    def open_round(self, round_: int, assignments: Iterable[AssignmentRow], held: str | None = None) -> None:
        """Write a round, the clients that were seen to be there, if any were looked at, and then its assignments."""
        self._connection.execute("INSERT INTO rounds (round, state, held) VALUES (?, 'open', ?)", (round_, held))
        rows = (
            (
                *(a.round, a.client, a.plan.SerializeToString(), a.mask, a.source, a.density, a.own),
                *(a.attempt, a.forgiven, a.stack),
            )
            for a in assignments
        )
        self._connection.executemany(
            "INSERT INTO assignments (round, client, plan, mask, source, density, own, attempt, forgiven, stack) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    def went_by_attendance(self) -> bool:
        """Tell whether it was looked at who was there when a round was opened."""
        return bool(self._scalar("SELECT EXISTS (SELECT 1 FROM rounds WHERE held IS NOT NULL)"))

    def set_aside(self, round_: int, reason: str) -> None:
        """Give a round, the last of a run that is made longer, the number -round: it is on record, and not in the way.

        What of it was not over is now.
        """
        self._connection.execute("PRAGMA defer_foreign_keys = ON")  # until the transaction's end
        self._connection.execute(
            "UPDATE assignments SET state = 'dropped' WHERE round = ? AND state != 'done'", (round_,)
        )
        self._connection.execute(
            f"UPDATE rounds SET state = 'committed', committed_at = {_NOW}, reason = ? "  # noqa: S608
            "WHERE round = ? AND state = 'open'",
            (reason, round_),
        )
        for table in ("rounds", "assignments", "results", "metrics", "measures", "refusals", "events"):
            self._connection.execute(f"UPDATE {table} SET round = -round WHERE round = ?", (round_,))  # noqa: S608

    def attempts(self, round_: int) -> dict[int, int]:
        """Return by client how many attempts there were at its assignment of a round."""
        rows = self._connection.execute("SELECT client, attempt FROM assignments WHERE round = ?", (round_,))
        return dict(rows.fetchall())

    def assignments(self, round_: int) -> list[AssignmentRow]:
        """Return the assignments of a round, in client order."""
        rows = self._connection.execute(
            "SELECT round, client, plan, mask, source, density, own, state, attempt, worker, reason, forgiven, "
            "leased_at, stack FROM assignments WHERE round = ? ORDER BY client",
            (round_,),
        )
        return [AssignmentRow(r, k, pb.Plan.FromString(plan), *rest) for r, k, plan, *rest in rows]

    def set_standings(self, standings: Iterable[Standing]) -> None:
        """Write how assignments stand from now on, and when a lease began or its result counted."""
        self._connection.executemany(
            f"UPDATE assignments SET leased_at = iif(attempt != ?1 AND ?2 = 'leased', {_NOW}, leased_at), "  # noqa: S608
            f"done_at = iif(?2 = 'done', {_NOW}, done_at), "
            "attempt = ?1, state = ?2, worker = ?3, reason = ?4, forgiven = ?5 WHERE round = ?6 AND client = ?7",
            ((s.id.attempt, s.state, s.worker, s.reason, s.forgiven, s.id.round, s.id.client) for s in standings),
        )

    def set_broadcast(self, id_: AssignmentId, *, broadcast: bool) -> None:
        """Note whether an assignment's worker starts from the whole model."""
        self._connection.execute(
            "UPDATE assignments SET broadcast = ? WHERE round = ? AND client = ?", (broadcast, id_.round, id_.client)
        )

    def retries(self, round_: int) -> int:
        """Return how often a round was tried again."""
        return self._scalar("SELECT retries FROM rounds WHERE round = ?", round_)

    def set_retries(self, round_: int, retries: int) -> None:
        """Write how often a round was tried again."""
        self._connection.execute("UPDATE rounds SET retries = ? WHERE round = ?", (retries, round_))

    def is_done(self, id_: AssignmentId, worker: WorkerId) -> bool:
        """Tell whether this attempt of this worker is the one that counted."""
        return bool(
            self._scalar(
                "SELECT count(*) FROM assignments WHERE state = 'done' "
                "AND (round, client, attempt, worker) = (?, ?, ?, ?)",
                *(*id_, worker),
            )
        )

    def count_bytes(self, round_: int, client: int, down: int, up: int) -> None:
        """Add to an assignment's traffic."""
        self._connection.execute(
            "UPDATE assignments SET bytes_down = bytes_down + ?, bytes_up = bytes_up + ? "
            "WHERE round = ? AND client = ?",
            (down, up, round_, client),
        )

    def bytes_of(self, round_: int, client: int) -> tuple[int, int]:
        """Return an assignment's traffic, down and up."""
        query = "SELECT bytes_down, bytes_up FROM assignments WHERE (round, client) = (?, ?)"
        down, up = self._connection.execute(query, (round_, client)).fetchone()
        return int(down), int(up)

    def total_bytes(self) -> tuple[int, int]:
        """Return the bytes of all assignments, down and up."""
        query = "SELECT coalesce(sum(bytes_down), 0), coalesce(sum(bytes_up), 0) FROM assignments"
        down, up = self._connection.execute(query).fetchone()
        return int(down), int(up)

    def commit_round(
        self, round_: int, seconds: float, reason: str, spent: Spent | None = None, *, tickets: bool = True
    ) -> None:
        """Close a round; its results become the clients' masks and tickets, if they are models."""
        self._connection.execute(
            "UPDATE rounds SET state = 'committed', seconds = ?, reason = ?, epsilon = ?, delta = ?, "  # noqa: S608
            f"committed_at = {_NOW} WHERE round = ?",
            (seconds, reason, *(spent or (None, None)), round_),
        )
        if not tickets:
            return
        self._connection.execute(
            "UPDATE clients SET density = results.density, ticket = results.file "
            "FROM results WHERE results.round = ? AND results.client = clients.client",
            (round_,),
        )
        # Apart: a mask that is set is written into its index too, a page for nearly every client, and most masks stay.
        self._connection.execute(
            "UPDATE clients SET mask = results.mask "
            "FROM results WHERE results.round = ? AND results.client = clients.client AND clients.mask != results.mask",
            (round_,),
        )

    # -- results

    def add_result(self, id_: AssignmentId, received: Received) -> None:
        """Write a result and its metrics."""
        metrics = received.metrics
        self._connection.execute(
            "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(id_.round, id_.client, received.examples, received.mask_digest, received.file),
                *(received.density, metrics.train_loss, metrics.seconds, received.scale),
            ),
        )
        evaluations: list[tuple[str, pb.Evaluation]] = [
            (phase, getattr(metrics, field)) for phase, field in _PHASES.items() if metrics.HasField(field)
        ]
        self._connection.executemany(
            "INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    *(id_.round, id_.client, phase, e.examples, e.loss, e.accuracy, e.balanced_accuracy),
                    *(e.micro_precision, e.micro_recall, e.macro_precision, e.macro_recall),
                )
                for phase, e in evaluations
            ),
        )
        self._connection.executemany(
            "INSERT INTO measures VALUES (?, ?, ?, ?, ?)",
            (
                (id_.round, id_.client, phase, name, value)
                for phase, e in evaluations
                for name, value in e.values.items()
            ),
        )

    def results(self, round_: int) -> list[ResultRow]:
        """Return the results of a round, in client order."""
        rows = self._connection.execute(
            f"SELECT r.round, r.client, r.examples, r.mask, r.file, r.scale, {score_column(self.score, 'v')} "  # noqa: S608
            "FROM results r "
            "LEFT JOIN metrics v ON (v.round, v.client, v.phase) = (r.round, r.client, 'validation') "
            "WHERE r.round = :round ORDER BY r.client",
            {"round": round_, "score": self.score.name},
        )
        return [ResultRow(*row) for row in rows]

    def densities(self, client: int) -> list[float]:
        """Return the densities of all tickets of a client so far, in order."""
        query = "SELECT density FROM results WHERE client = ? AND round > 0 ORDER BY round"
        return [density for (density,) in self._connection.execute(query, (client,))]

    # -- refusals

    def add_refusal(self, id_: AssignmentId, worker: str, reason: str) -> None:
        """Write that a result of a worker, by its name, was refused."""
        self._connection.execute(
            "INSERT INTO refusals (round, client, attempt, worker, reason) VALUES (?, ?, ?, ?, ?)",
            (*id_, worker, reason),
        )

    def refusals(self) -> dict[str, tuple[int, str]]:
        """Return by worker's name how many of its results were refused, and why the last one was."""
        rows = self._connection.execute(
            "SELECT worker, count(*), reason, max(number) FROM refusals GROUP BY worker ORDER BY worker"
        )
        return {worker: (count, reason) for worker, count, reason, _ in rows}

    def refused_clients(self, round_: int, worker: str, after: int) -> dict[int, int]:
        """Return by client how many of a worker's results in a round were refused, but for its first in the run."""
        rows = self._connection.execute(
            "SELECT client, count(*) FROM (SELECT client, round FROM refusals WHERE worker = ? ORDER BY number "
            "LIMIT -1 OFFSET ?) WHERE round = ? GROUP BY client",
            (worker, after, round_),
        )
        return dict(rows.fetchall())

    def _scalar(self, query: str, *parameters: object) -> int:
        return int(self._connection.execute(query, parameters).fetchone()[0])


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)


def _mode(path: Path, *, read_only: bool) -> str:
    """Return how SQLite is to open the file: where nobody has it open, a reader leaves no file of its own beside it."""
    if not read_only:
        return "mode=rwc"
    return "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
