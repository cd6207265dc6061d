"""Methods whose clients' half is code of one's own: one result, wherever and after whatever it is worked out."""

import signal
from pathlib import Path
from typing import Any

import pytest

import lotteryfl
from lotteryfl.running.opened import opened_again
from lotteryfl.running.owncode import OwnCode
from lotteryfl.server.results.verify import verify
from lotteryfl.server.strategies import add_strategies
from tests.support.paths import ROOT
from tests.support.processes import Gate
from tests.support.runs import GATED, GATED_TASK, Start, Write, assert_same_bits, read_summary

OWN = ROOT / "tests" / "support" / "own_methods.py"
STRATEGY = ("--strategy", OWN)


@pytest.mark.usefixtures("own_strategies")
def test_one_process_three_workers_and_one_worker_after_a_kill_give_the_same_bits(
    tmp_path: Path, start: Start, write: Write, gate: Gate
) -> None:
    path = write(strategy={"name": "mixed"})
    killed = start("simulate", path, "--run-dir=killed", *STRATEGY, env=gate.env)
    for _ in range(4):  # three in the first round
        visit = gate.arrival()
        visit.let_go()
    killed.send(signal.SIGKILL)
    assert killed.exit_code() == -signal.SIGKILL
    gate.open()
    runs = {
        "killed": start("run", path, "--run-dir=killed", "--workers=1", *STRATEGY),
        "three": start("run", path, "--run-dir=three", "--workers=3", *STRATEGY),
    }
    experiment = lotteryfl.load_experiment(path)
    lotteryfl.simulate(experiment, tmp_path / "here", strategies=[str(OWN)]).close()
    expected = read_summary(tmp_path / "here")
    for name, process in runs.items():
        assert process.exit_code() == 0, process.stderr
        assert_same_bits(tmp_path / name, expected)
    assert verify(tmp_path / "three").problems == 0


def simulated(folder: Path, path: Path, **options: Any) -> lotteryfl.RunView:
    return lotteryfl.simulate(lotteryfl.load_experiment(path), folder, device="cpu", **options)


@pytest.mark.usefixtures("own_strategies")
def test_a_loss_of_ones_own_gives_the_built_in_methods_model(tmp_path: Path, write: Write) -> None:
    results = {}
    for name in ("near", "fedprox", "fedavg"):
        path = write(strategy={"name": name, "proximal": 0.5})
        with simulated(tmp_path / name, path, strategies=[str(OWN)]) as view:
            results[name] = view.global_model()
    for name, tensor in results["fedprox"].items():
        assert tensor.allclose(results["near"][name], atol=1e-6)
    assert not results["fedavg"]["0.weight"].allclose(results["near"]["0.weight"], atol=1e-4)


@pytest.mark.usefixtures("own_strategies")
def test_halves_may_be_in_two_files_and_nothing_is_a_run_without_both(tmp_path: Path, write: Write) -> None:
    head, local = OWN.read_text().split("class NearTheStart")
    head = head.replace('near"', 'apart"')
    (tmp_path / "own_half.py").write_text(head)
    imports = OWN.read_text().split("class Near(")[0]
    (tmp_path / "own_other_half.py").write_text(
        f"{imports}class NearTheStart{local.split('class Mixed(')[0]}".replace('name = "near"', 'name = "apart"')
    )
    path = write(strategy={"name": "apart"}, rounds=1)
    add_strategies(str(tmp_path / "own_half.py"))
    with pytest.raises(lotteryfl.LotteryFLError) as caught:
        simulated(tmp_path / "run", path)
    assert str(caught.value) == (
        "strategy.name = 'apart': its local algorithm 'apart' is not here: name its file with --local"
    )
    assert not (tmp_path / "run").exists()
    with simulated(tmp_path / "run", path, local=[str(tmp_path / "own_other_half.py")]) as view:
        assert view.status().state == view.status().FINISHED
    task, own = (str(GATED_TASK),), (str(tmp_path / "own_other_half.py"),)
    with opened_again(tmp_path / "run", OwnCode(task)) as finished:
        assert finished.code is None, "nothing is left to do"
    with opened_again(tmp_path / "run", OwnCode(task, local=own), ["rounds=2"]) as longer:
        assert longer.code is not None
        assert longer.command("simulate").endswith(f"--local={own[0]}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": {"stacked": 4}}, "engine.stacked = 4: clients of strategy.name = 'near' have code of their own"),
        (
            {
                "privacy": {"clip_norm": 1.0, "noise": "server", "noise_multiplier": 1.0},
                "aggregation": {"weighting": "equal"},
            },
            "privacy.noise: strategy.name = 'near' has code of its own on the clients, local algorithm 'near', which",
        ),
    ],
)
@pytest.mark.usefixtures("own_strategies")
def test_what_code_of_ones_own_does_not_go_with_is_refused(
    tmp_path: Path, write: Write, changes: dict[str, Any], message: str
) -> None:
    path = write(GATED, strategy={"name": "near"}, **changes)
    with pytest.raises(lotteryfl.LotteryFLError, match=f"^{message}"):
        simulated(tmp_path / "run", path, strategies=[str(OWN)])
