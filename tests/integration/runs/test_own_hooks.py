"""Strategies of the user's own that weigh clients, plan by metrics, and go by who is there, over real processes."""

import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lotteryfl.server.results.verify import verify
from lotteryfl.server.strategies import add_strategies
from tests.support.paths import ROOT
from tests.support.processes import Gate, free_port
from tests.support.runs import GATED, GATED_TASK, Expect, Start, Write, assert_same_bits, read_summary

pytestmark = pytest.mark.usefixtures("own_strategies")

EXAMPLES = {"q-fedavg": "q_fedavg.py", "prune-the-accurate": "prune_accurate.py"}
WITHOUT = {"q-fedavg": "fedavg", "prune-the-accurate": "lotteryfl"}
"""What each is without what it does."""

ATTENDING = """
from lotteryfl.server.strategies.fedavg import FedAvg

class Attending(FedAvg):
    name = "attending"
    attends = True
"""


def densities(folder: Path) -> list[float]:
    """Return what clients have kept after the last round that trains."""
    with closing(sqlite3.connect(folder / "run.db")) as database:
        return [density for (density,) in database.execute("SELECT density FROM results WHERE round = 3")]


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_give_the_same_bits_with_any_number_of_workers_and_others_than_without(
    name: str, workers: int, tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    source = ROOT / "examples" / EXAMPLES[name]
    add_strategies(str(source))
    path = write(strategy={"name": name, "target_density": 0.1})
    process = start("run", path, "--workers", workers, "--task", GATED_TASK, "--strategy", source, "--run-dir", "run")
    assert process.exit_code() == 0, process.stderr
    expected = expect(path)
    assert_same_bits(tmp_path / "run", expected)
    plain = expect(write(strategy={"name": WITHOUT[name], "target_density": 0.1}, name="plain.toml"))
    assert plain["model_sha256"] != expected["model_sha256"]
    assert (len(set(densities(tmp_path / "run"))) > 1) == (name == "prune-the-accurate")
    assert verify(tmp_path / "run").problems == 0


def test_a_coordinator_that_is_killed_goes_on_with_the_clients_that_it_saw(
    tmp_path: Path, start: Start, write: Write, gate: Gate
) -> None:
    source = tmp_path / "attending.py"
    source.write_text(ATTENDING)
    add_strategies(str(source))
    settings: dict[str, Any] = {"strategy": {"name": "attending"}, "clients": 6, "clients_per_round": 2, "rounds": 2}
    path, address = write(GATED, **settings), f"127.0.0.1:{free_port()}"
    command = ("serve", path, f"--listen={address}", "--strategy", source, "--run-dir", "run", "--task", GATED_TASK)
    work = ("work", f"--coordinator={address}", f"--task={GATED_TASK}")
    server = start(*command)
    server.said("^listening at ")
    worker = start(*work, "--name=few", "--clients=1,4-5", env=gate.env)
    first = gate.arrival().client
    server.send(signal.SIGKILL)
    server.exit_code()
    server = start(*command)
    server.said("^listening at ")
    others = start(*work, "--name=others", "--clients=0,2-3", env=gate.env)
    gate.open()
    for process in (server, worker, others):
        assert process.exit_code() == 0, process.stderr
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as database:
        held = dict(database.execute("SELECT round, held FROM rounds"))
        drawn = [client for (client,) in database.execute("SELECT client FROM assignments WHERE round = 1")]
    assert (held[1], held[3]) == ("1,4-5", None)
    assert held[2] in ("1,4-5", "0-5")
    assert first in drawn
    assert set(drawn) < {1, 4, 5}
    assert read_summary(tmp_path / "run")["bits_depend_on"] == "attendance"
    assert "bits depend on attendance" in server.stdout
    assert verify(tmp_path / "run").problems == 0
