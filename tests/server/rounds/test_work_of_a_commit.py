"""What a commit does, counted in SQLite's own steps: it goes by the round, not by all clients nor by the past."""

from pathlib import Path
from typing import Any

import pytest

from lotteryfl.common.names import Digest, FileName
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.conclusion import Conclusion
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.store.assignments import AssignmentId
from lotteryfl.server.store.rundb.rows import Received
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import TinyTask, create, tiny_experiment

CLIENT_NOISE = {
    "strategy": {"name": "fedavg"},
    "aggregation": {"weighting": "equal"},
    "privacy": {"clip_norm": 1.0, "noise": "client", "noise_multiplier": 3.0},
}
SERVER_NOISE = {**CLIENT_NOISE, "privacy": {"clip_norm": 1.0, "noise": "server"}}
DP_SGD = {"strategy": {"name": "fedavg"}, "privacy": {"dp_sgd": True}}


def finish_round(run: RunDirectory, coordinator: Coordinator) -> None:
    """Count a result for every assignment of the open round, as if it had been checked, and commit the round."""
    number = coordinator.round
    nothing = pb.Evaluation(examples=1)
    metrics = pb.ClientMetrics(validation=nothing, downloaded=nothing, personalised=nothing, density=1)
    with run.database.transaction():
        for row in run.database.assignments(number):
            id_ = AssignmentId(number, row.client, 1)
            file = FileName(f"results/{id_}.safetensors")
            (run.path / file).touch()
            run.database.add_result(id_, Received(str(id_), 8, Digest(""), file, 1.0, metrics))
            run.database.set_standings([row.standing._replace(id=id_, state="done")])


def steps_of_commit(path: Path, rounds: int, **changes: Any) -> int:
    """Return how many steps SQLite takes for the commit of a round, after others; the next one is opened with it."""
    with create(path, tiny_experiment(rounds=rounds + 1, **changes), TinyTask()) as run:
        for _ in range(rounds):
            coordinator = Coordinator(run)
            finish_round(run, coordinator)
            coordinator = Coordinator(run)  # which knows of the results
            assert coordinator.advance() is Step.COMMIT
            steps = 0

            def count() -> int:
                nonlocal steps
                steps += 1
                return 0

            run.database.select("SELECT 1").connection.set_progress_handler(count, 1)
            unneeded = coordinator.commit(Conclusion())
            run.database.select("SELECT 1").connection.set_progress_handler(None, 1)
            run.remove(unneeded)
        tickets = {row.ticket for row in run.database.clients() if row.ticket}
        assert {f"results/{path.name}" for path in (run.path / "results").iterdir()} == tickets
        assert not run.leftovers()
    return steps


@pytest.mark.parametrize("name", ["lotteryfl", "standalone", "cell"])
def test_it_does_not_grow_with_the_number_of_clients(name: str, tmp_path: Path) -> None:
    few, many = (
        steps_of_commit(tmp_path / str(clients), 2, clients=clients, strategy={"name": name}) for clients in (10, 4_000)
    )
    assert many < 1.2 * few


@pytest.mark.parametrize("changes", [{}, CLIENT_NOISE, SERVER_NOISE, DP_SGD], ids=["plain", "client", "server", "sgd"])
def test_it_does_not_grow_with_the_number_of_rounds(changes: dict[str, Any], tmp_path: Path) -> None:
    few, many = (steps_of_commit(tmp_path / str(rounds), rounds, clients=20, **changes) for rounds in (8, 40))
    assert many < 1.2 * few
