"""What `import lotteryfl` gives: documented, and enough to run an experiment, watch it and look at it."""

import asyncio
import inspect
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lotteryfl
from lotteryfl.protos import lotteryfl_pb2 as pb

ROOT = Path(__file__).parents[2]
SMALL = ["rounds=2", "clients=3", "clients_per_round=3", "training.epochs=1", "strategy.accuracy_threshold=0.0"]
FUNCTIONS = [name for name in lotteryfl.__all__ if inspect.isfunction(getattr(lotteryfl, name))]

OWN_STRATEGY = "from lotteryfl.server.strategies import FedAvg\n\nclass Mine(FedAvg):\n    name = 'mine'\n"


@pytest.fixture(scope="module")
def experiment() -> lotteryfl.Experiment:
    return lotteryfl.load_experiment(ROOT / "examples" / "digits.toml", SMALL)


def test_the_document_lists_what_is_public_and_nothing_else() -> None:
    tables = (ROOT / "docs" / "api.md").read_text().split("| Name | What it is |")[1:]
    listed = [name for table in tables for name in re.findall(r"^\| `(\w+)` \|", table.split("\n\n")[0], re.MULTILINE)]
    assert sorted(listed) == lotteryfl.__all__ == dir(lotteryfl)


@pytest.mark.parametrize("name", lotteryfl.__all__)
def test_everything_public_is_there_and_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(lotteryfl, name))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_say_what_they_take(name: str) -> None:
    function = getattr(lotteryfl, name)
    documented = inspect.getdoc(function) or ""
    assert "Args:" in documented
    assert [each for each in inspect.signature(function).parameters if f"    {each}: " not in documented] == []


def test_what_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'lotteryfl' has no attribute 'nothing'"):
        _ = lotteryfl.nothing


def test_simulate_and_run_give_the_same_run_to_look_at(experiment: lotteryfl.Experiment, tmp_path: Path) -> None:
    shown: list[pb.RunStatus] = []
    with lotteryfl.simulate(experiment, tmp_path / "a", device="cpu", show=shown.append) as simulated:
        assert [shown[0].round, shown[-1].round] == [0, 2]
        assert (simulated.status().state, simulated.status().rounds) == (pb.RunStatus.FINISHED, 2)
        rounds = simulated.rounds()
        assert list(rounds["round"]) == [1, 2, 3]
        assert rounds["epsilon"].isna().all()
        measured = simulated.metrics().query("phase == 'personalised'").groupby("round")["accuracy"].mean()
        assert list(rounds["accuracy_personalised"]) == pytest.approx(list(measured))
        seen: list[pb.RunStatus] = []
        with lotteryfl.run(experiment, tmp_path / "b", workers=1, device="cpu", show=seen.append) as ran:
            assert seen[-1].state == pb.RunStatus.FINISHED
            assert ran.summary()["tickets_sha256"] == simulated.summary()["tickets_sha256"]
            model = lotteryfl.create_model("digits", "mlp")
            model.load_state_dict(ran.ticket(0))
    assert (tmp_path / "b" / "summary.json").exists()


def test_an_interrupted_run_goes_on_when_called_again(experiment: lotteryfl.Experiment, tmp_path: Path) -> None:
    def interrupt(status: pb.RunStatus) -> None:
        if status.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lotteryfl.simulate(experiment, tmp_path / "run", device="cpu", show=interrupt)
    with lotteryfl.open_run(tmp_path / "run") as view:
        assert (view.status().state, view.status().round) == (pb.RunStatus.RUNNING, 1)
    with lotteryfl.simulate(experiment, tmp_path / "run", device="cpu") as view:
        assert view.status().state == pb.RunStatus.FINISHED
    with lotteryfl.simulate(experiment, tmp_path / "run", device="cpu") as again:  # nothing is left to do
        assert again.status().round == 2
    other = lotteryfl.load_experiment(ROOT / "examples" / "digits.toml", [*SMALL, "seed=1"])
    with pytest.raises(lotteryfl.LotteryFLError, match="holds the run of another experiment"):
        lotteryfl.simulate(other, tmp_path / "run", device="cpu")


@pytest.mark.usefixtures("own_strategies")
def test_run_works_where_a_loop_is_running_with_a_strategy_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(OWN_STRATEGY)
    experiment = lotteryfl.load_experiment(ROOT / "examples" / "digits.toml", [*SMALL, "strategy.name=mine"])

    async def cell() -> int:
        with lotteryfl.run(experiment, tmp_path / "run", workers=1, device="cpu", strategies=[str(own)]) as view:
            return view.status().round

    assert asyncio.run(cell()) == 2


def test_a_run_that_fails_says_why(experiment: lotteryfl.Experiment, tmp_path: Path) -> None:
    with pytest.raises(lotteryfl.LotteryFLError, match="no worker is left: worker-1: --device nowhere"):
        lotteryfl.run(experiment, tmp_path / "run", workers=1, device="nowhere")


def test_the_first_run_of_the_examples(tmp_path: Path) -> None:
    script = ROOT / "examples" / "first_run.py"
    process = subprocess.run(
        [sys.executable, script, tmp_path / "run", *SMALL], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert re.search(r"^client 0 keeps [1-9]\d% of its weights$", process.stdout, re.MULTILINE)
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert len(script.read_text().splitlines()) < 25


INTERRUPTED = """
import sys
import lotteryfl
experiment = lotteryfl.load_experiment(sys.argv[1], sys.argv[3:])
lotteryfl.run(experiment, sys.argv[2], workers=1, device="cpu", show=lambda status: print(status.round, flush=True))
"""


def test_ctrl_c_stops_a_run_and_its_workers_and_keeps_what_was_counted(tmp_path: Path) -> None:
    arguments = [str(ROOT / "examples" / "digits.toml"), str(tmp_path / "run"), *SMALL, "rounds=10000"]
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    next(line for line in process.stdout if line == "1\n")
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait() == -signal.SIGINT
    with lotteryfl.open_run(tmp_path / "run") as view:
        status = view.status()
    assert (status.state, status.round > 0) == (pb.RunStatus.RUNNING, True)
    assert "stopped" in (tmp_path / "run" / "logs" / "worker-1.log").read_text()
