"""A worker that its parent has enough of: it leaves by itself, and nothing that it did is lost."""

from lotteryfl.running.parent import LEAVE
from lotteryfl.server.store.rundir import inspected
from tests.integration.devices.conftest import Child
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.processes import Gate
from tests.support.runs import Coordinate, Write
from tests.support.waiting import PROMPT, until


def states(server: CoordinatorThread) -> dict[int, tuple[str, int, int]]:
    """Return by client of the first round how it stands, its attempts, and those that do not count."""
    with inspected(server.run.path) as run:
        return {row.client: (row.state, row.attempt, row.forgiven) for row in run.database.assignments(1)}


def test_what_is_under_work_counts_and_what_is_ahead_goes_back(
    child: Child, write: Write, gate: Gate, coordinate: Coordinate
) -> None:
    server = coordinate(write(clients=2, clients_per_round=2))
    worker, line = child(server)
    held = gate.arrival()
    until(lambda: [state for state, _, _ in states(server).values()] == ["leased", "leased"])
    line.sendall(f"{LEAVE}\n".encode())
    worker.said("leaves when it has nothing under work$")
    held.let_go()
    assert worker.exit_code(PROMPT) == 0, worker.stderr
    assert states(server) == {held.client: ("done", 1, 0), 1 - held.client: ("waiting", 1, 1)}


def test_who_has_nothing_in_hand_leaves_at_once(child: Child, write: Write, gate: Gate, coordinate: Coordinate) -> None:
    server = coordinate(write(clients=1, clients_per_round=1))
    child(server)
    gate.arrival()
    idle, line = child(server)
    idle.said("registered, on cpu$")
    line.sendall(f"{LEAVE}\n".encode())
    assert idle.exit_code(PROMPT) == 0, idle.stderr
    assert "the run has finished" not in idle.stderr
