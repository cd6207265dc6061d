"""Who lacks a run's local algorithm, or has another version of it: named, and it has to be wanted; and its errors."""

from pathlib import Path

import pytest

import lotteryfl
from tests.support.processes import free_port
from tests.support.runs import GATED_TASK, Start, Write

METHOD = """
from lotteryfl import LocalAlgorithm, Strategy
from lotteryfl.protos import lotteryfl_pb2 as pb

class Mine(Strategy):
    name = local = "mine"

    def plan(self, round_, client):
        return pb.Plan(train=self.local_training(), local=self.local_plan())

class MineLocally(LocalAlgorithm):
    name = "mine"

    def begin(self):
        import own_numbers
        own_numbers.check(self.work.client)
"""
NUMBERS = "def check(client):\n    pass\n"
EDITED = f"{NUMBERS}# the same, but for this line\n"
DIFFERS = (
    "local algorithm mine: this worker's version is not the coordinator's: 'own_numbers.py' differs; "
    "--any-local-version takes part all the same"
)


def files(folder: Path, numbers: str = NUMBERS) -> Path:
    folder.mkdir()
    (folder / "own_numbers.py").write_text(numbers)
    (folder / "own_method.py").write_text(METHOD)
    return folder / "own_method.py"


@pytest.fixture
def method(tmp_path: Path) -> Path:
    return files(tmp_path / "theirs")


def test_a_worker_without_it_or_with_another_version_says_so_and_leaves(
    tmp_path: Path, method: Path, start: Start, write: Write
) -> None:
    address, path = f"127.0.0.1:{free_port()}", write(strategy={"name": "mine"}, rounds=1)
    server = start("serve", path, "--listen", address, "--strategy", method, "--run-dir=run")
    server.said("listening at")
    work = ("work", "--coordinator", address, "--task", GATED_TASK)
    edited = files(tmp_path / "edited", EDITED)
    leaving = {
        start(*work, "--name=lacking"): (
            "local algorithm 'mine', which the run's plans name, is not here: name its file with --local"
        ),
        start(*work, "--name=edited", "--local", edited): DIFFERS,
    }
    for worker, line in leaving.items():
        assert worker.exit_code() == 5
        assert worker.error_line == line
    staying = [
        start(*work, "--name=same", "--local", files(tmp_path / "copy")),
        start(*work, "--name=wanted", "--local", edited, "--any-local-version"),
    ]
    for worker in (server, *staying):
        assert worker.exit_code() == 0, worker.stderr


@pytest.mark.slow
def test_a_run_goes_on_with_an_edited_one_only_where_that_is_wanted(
    tmp_path: Path, method: Path, start: Start, write: Write
) -> None:
    path = write(strategy={"name": "mine"}, rounds=1)
    own = ("--strategy", method)
    begun = start("serve", path, "--listen=127.0.0.1:0", "--run-dir=run", *own)
    begun.said("listening at")
    begun.end()
    (method.parent / "own_numbers.py").write_text(EDITED)
    for command in (("run", path, "--run-dir=run"), ("simulate", "run"), ("serve", "run", "--listen=127.0.0.1:0")):
        process = start(*command, *own, *(("--task", GATED_TASK) if command[1] == "run" else ()))
        assert process.exit_code() == 5
        assert process.error_line == (
            "run: is the run of another version of local algorithm mine: 'own_numbers.py' differs; "
            "--any-local-version goes on with this one"
        )
    wanted = start("run", "run", "--workers=1", "--task", GATED_TASK, *own, "--any-local-version")
    assert wanted.exit_code() == 0, wanted.stderr


@pytest.mark.usefixtures("own_strategies")
def test_its_errors_are_its_clients_and_say_where_they_arose(tmp_path: Path, method: Path, write: Write) -> None:
    (method.parent / "own_numbers.py").write_text("def check(client):\n    assert client != 2, 'not this one'\n")
    path = write(strategy={"name": "mine"}, rounds=1, clients_per_round=4, round={"min_results": 3, "max_attempts": 1})
    experiment = lotteryfl.load_experiment(path)
    with lotteryfl.simulate(experiment, tmp_path / "run", device="cpu", strategies=[str(method)]) as view:
        (left_out,) = view.status().left_out
    assert left_out.client == 2
    place = f"{method.parent}/own_numbers.py:2"
    assert f"client 2: local algorithm mine: begin() failed at {place}: AssertionError: not this" in left_out.reason
