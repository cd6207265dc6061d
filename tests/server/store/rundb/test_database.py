"""run.db: whole transactions, and the queries against figures worked out by hand."""

import re
import sqlite3
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.names import Digest, FileName, WorkerId
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.assignments import AssignmentId, Standing, State
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.needed import files_in_use
from lotteryfl.server.store.rundb.rows import AssignmentRow, ClientRow, Received
from lotteryfl.server.store.rundb.schema import OLDEST_VERSION, SCHEMA_VERSION
from lotteryfl.server.store.summaries import ClientSummary, client_summaries, round_summaries

A, B, W = WorkerId("a:1"), WorkerId("b:1"), WorkerId("w:1")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "run.db")
    database.add_clients(3)
    return database


def row(round_: int, client: int, plan: pb.Plan, mask: str, source: str) -> AssignmentRow:
    return AssignmentRow(round_, client, plan, Digest(mask), FileName(source))


def open_round(database: Database, round_: int, clients: tuple[int, ...] = (0, 1)) -> None:
    database.open_round(
        round_, (row(round_, client, pb.Plan(), "", "models/round-0000.safetensors") for client in clients)
    )


def add_result(
    database: Database, round_: int, client: int, accuracy: tuple[float, float], mask: str = "", density: float = 1.0
) -> None:
    id_ = AssignmentId(round_, client, 1)
    metrics = pb.ClientMetrics(train_loss=client + 1)
    metrics.downloaded.accuracy, metrics.personalised.accuracy = accuracy
    database.add_result(id_, Received(str(id_), 10, Digest(mask), FileName(f"results/{id_}"), density, metrics))
    database.set_standings([Standing(id_, "done", W)])


def test_a_transaction_is_whole_or_nothing(database: Database) -> None:
    def half_way() -> None:
        with database.transaction():
            database.put("state", "running")
            open_round(database, 1)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        half_way()
    assert database.get("state", "none") == "none"
    assert not database.is_open(1)
    with database.transaction():
        database.put("state", "running")
    assert database.get("state") == "running"


def test_a_transaction_that_cannot_be_committed_leaves_the_database_usable(tmp_path: Path, database: Database) -> None:
    def found_out_by_the_commit() -> None:
        with database.transaction():
            database._connection.execute("PRAGMA defer_foreign_keys = ON")
            database.put("state", "running")
            open_round(database, 1, clients=(99,))

    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        found_out_by_the_commit()
    assert database.get("state", "none") == "none"
    with database.transaction():
        database.put("state", "failed")
    assert Database(tmp_path / "run.db").get("state") == "failed"


def test_what_is_no_run_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    path.write_bytes(b"not SQLite" * 100)
    with pytest.raises(LotteryFLError, match=r"run\.db: cannot be used as a run database: file is not a database"):
        Database(path)
    with pytest.raises(LotteryFLError, match="cannot be used as a run database"):
        Database(tmp_path / "none.db", read_only=True)
    assert not (tmp_path / "none.db").exists()


def test_another_versions_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    Database(path)._connection.execute("PRAGMA user_version = 12")
    for read_only in (False, True):
        with pytest.raises(
            LotteryFLError, match=rf"run\.db: is of version 12; this program reads {OLDEST_VERSION} to {SCHEMA_VERSION}"
        ):
            Database(path, read_only=read_only)


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE metrics",
        "CREATE VIEW other AS SELECT 1",
        "CREATE TRIGGER other AFTER DELETE ON run BEGIN SELECT 1; END",
    ],
)
def test_a_database_with_other_tables_is_refused(tmp_path: Path, query: str) -> None:
    """What is in a view would run as soon as it is read: for ever, if its author likes."""
    path = tmp_path / "run.db"
    Database(path)._connection.execute(query)
    for read_only in (True, False):
        with pytest.raises(LotteryFLError, match=rf"run\.db: its tables are not those of version {SCHEMA_VERSION}"):
            Database(path, read_only=read_only)


def test_a_path_may_hold_what_a_uri_may_not(tmp_path: Path) -> None:
    folder = tmp_path / "50% of ?mode=ro #1"
    folder.mkdir()
    Database(folder / "run.db").put("a", "b")
    assert (folder / "run.db").is_file()
    assert Database(folder / "run.db", read_only=True).get("a") == "b"


def test_a_reader_cannot_write(tmp_path: Path, database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        Database(tmp_path / "run.db", read_only=True).put("state", "failed")


def test_a_snapshot_sees_one_moment(tmp_path: Path, database: Database) -> None:
    database.put("state", "running")
    reader = Database(tmp_path / "run.db", read_only=True)
    with reader.snapshot():
        assert reader.get("state") == "running"
        database.put("state", "finished")
        assert reader.get("state") == "running"
        assert list(reader.select("SELECT value FROM run WHERE key = ?", "state")) == [("running",)]
    assert reader.get("state") == "finished"


def test_a_reader_leaves_no_file_where_nobody_else_has_the_database_open(tmp_path: Path, database: Database) -> None:
    database.put("state", "finished")
    database.close()
    reader = Database(tmp_path / "run.db", read_only=True)
    assert reader.get("state") == "finished"
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]
    reader.close()


def test_an_assignment_comes_back_as_it_was_written(database: Database) -> None:
    plan = pb.Plan(train=pb.Plan.Train(epochs=3), prune=pb.Plan.Prune(rate=0.2))
    rows = [row(1, 2, plan, "m", "results/x"), row(1, 0, plan, "", "models/y")]
    database.open_round(1, rows)
    assert database.assignments(1) == [rows[1], rows[0]]
    assert database.is_open(1)
    assert not database.is_open(2)
    assert database.committed_rounds() == 0


def test_only_the_attempt_and_worker_that_counted_are_done(database: Database) -> None:
    open_round(database, 1)
    database.set_standings([Standing(AssignmentId(1, 0, 2), "leased", A)])
    assert not database.is_done(AssignmentId(1, 0, 2), A)
    database.set_standings([Standing(AssignmentId(1, 0, 2), "done", A)])
    assert database.is_done(AssignmentId(1, 0, 2), A)
    assert not database.is_done(AssignmentId(1, 0, 1), A)
    assert not database.is_done(AssignmentId(1, 0, 2), B)


def test_a_result_counts_once_even_for_sqlite(database: Database) -> None:
    open_round(database, 1)
    add_result(database, 1, 0, (0.1, 0.2))
    with pytest.raises(sqlite3.IntegrityError):
        add_result(database, 1, 0, (0.1, 0.2))
    with pytest.raises(sqlite3.IntegrityError):
        add_result(database, 1, 2, (0.1, 0.2))  # client 2 has no assignment


def test_a_commit_makes_the_rounds_results_the_clients_masks_and_tickets(database: Database) -> None:
    open_round(database, 1)
    add_result(database, 1, 1, (0.1, 0.2), mask="abc")
    assert [row.ticket for row in database.clients()] == ["", "", ""]
    assert files_in_use(database) == (
        {"", "results/r1-c1-a1", "models/round-0000.safetensors"},
        {"", "abc"},
    )
    database.commit_round(1, 2.5, "all results are in")
    assert database.clients()[1] == ClientRow(1, Digest("abc"), FileName("results/r1-c1-a1"))
    assert [row.ticket for row in database.clients()] == ["", "results/r1-c1-a1", ""]
    assert database.committed_rounds() == 1
    open_round(database, 2)
    add_result(database, 2, 1, (0.1, 0.2), mask="def")
    assert files_in_use(database)[1] == {"", "abc", "def"}
    database.commit_round(2, 1, "all results are in")
    assert files_in_use(database) == ({"", "results/r2-c1-a1"}, {"", "def"})


def test_a_summary_is_the_mean_over_the_clients_of_a_committed_round(database: Database) -> None:
    open_round(database, 1)
    add_result(database, 1, 0, (0.2, 0.9), density=0.5)
    add_result(database, 1, 1, (0.6, 0.7), density=0.25)
    assert round_summaries(database) == []
    database.commit_round(1, 2.5, "all results are in")
    open_round(database, 2, clients=(1,))
    add_result(database, 2, 1, (1.0, 0.5))
    first, *others = round_summaries(database)
    assert others == []
    assert round_summaries(database, 2) == []
    assert (first.round, first.clients, first.seconds) == (1, 2, 2.5)
    assert (first.accuracy_downloaded, first.accuracy_personalised) == pytest.approx((0.4, 0.8))
    assert (first.density, first.train_loss) == (0.375, 1.5)


def test_a_client_summary_has_one_rounds_accuracy_and_the_whole_runs_traffic(database: Database) -> None:
    for round_ in (1, 2):
        open_round(database, round_)
        add_result(database, round_, 0, (round_ / 10, round_ / 5))
        database.count_bytes(round_, 0, 100 * round_, round_)
        database.commit_round(round_, 1, "")
    assert client_summaries(database, 2) == [ClientSummary(0, 0.2, 0.4, 1.0, 300, 3)]


def test_how_an_assignment_stands_is_kept_whole(database: Database) -> None:
    open_round(database, 1)
    assert [row.standing for row in database.assignments(1)] == [Standing(AssignmentId(1, k, 0)) for k in (0, 1)]
    standing = Standing(AssignmentId(1, 1, 5), "dropped", A, "out of memory", forgiven=2)
    database.set_standings([standing])
    assert [row.standing for row in database.assignments(1)] == [Standing(AssignmentId(1, 0, 0)), standing]


def test_a_rounds_retries_are_its_own(database: Database) -> None:
    open_round(database, 1)
    open_round(database, 2)
    database.set_retries(2, 3)
    assert (database.retries(1), database.retries(2)) == (0, 3)


def test_a_summary_names_who_has_no_result(database: Database) -> None:
    for round_, clients in ((1, (0, 1, 2)), (2, (0, 1))):
        open_round(database, round_, clients)
        add_result(database, round_, 1, (0.1, 0.2))
        dropped = (Standing(AssignmentId(round_, client, 1), "dropped") for client in clients if client != 1)
        database.set_standings(dropped)
    database.commit_round(1, 1, "")
    assert [list(summary.stragglers) for summary in round_summaries(database)] == [[0, 2]]
    database.commit_round(2, 1, "")
    assert [list(summary.stragglers) for summary in round_summaries(database)] == [[0, 2], [0]]
    assert [list(summary.stragglers) for summary in round_summaries(database, 2)] == [[0]]


def test_a_lease_and_a_result_have_a_date_and_a_repeated_grant_changes_neither(database: Database) -> None:
    open_round(database, 1, clients=(0,))

    def dates() -> tuple[str, str]:
        ((leased, done),) = database.select("SELECT leased_at, done_at FROM assignments")
        return leased, done

    def stand(attempt: int, state: State) -> tuple[str, str]:
        database.set_standings([Standing(AssignmentId(1, 0, attempt), state, W)])
        return dates()

    assert dates() == ("", "")
    leased, done = stand(1, "leased")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", leased)
    assert done == ""
    database._connection.execute("UPDATE assignments SET leased_at = 'the first'")
    assert stand(1, "leased") == ("the first", "")
    assert stand(1, "waiting") == ("the first", "")
    again, done = stand(2, "leased")
    assert again >= leased
    assert done == ""
    database._connection.execute("UPDATE assignments SET leased_at = 'the second'")
    kept, done = stand(2, "done")
    assert (kept, done >= again) == ("the second", True)
