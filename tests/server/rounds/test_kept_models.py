"""Which global models of past rounds stay (`evaluation.keep`): as declared, after restarts too, and with equal bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.program import program
from lotteryfl.server.models.ticket import global_tensors
from lotteryfl.server.results.verify import verify
from lotteryfl.server.results.view import open_run
from lotteryfl.server.rounds.work import Step
from tests.support.bench import Bench, tiny_experiment

Drive = Callable[..., Bench]

LIVELY: dict[str, Any] = {"training": {"lr": 0.5, "epochs": 3}, "strategy": {"name": "fedavg"}}


def finished(bench: Bench) -> list[set[str]]:
    """Drive a run to its end, restarting it after every commit; return which models there were after each."""
    found = []
    while (step := bench.coordinator.advance()) is not Step.ENDED:
        if step is Step.COMMIT:
            bench.commit()
            bench.restart()
            found.append(bench.files("models"))
        else:
            bench.do_all(bench.register())
    return found


def names(*rounds: int) -> set[str]:
    return {f"round-{round_:04d}.safetensors" for round_ in rounds}


def test_every_second_model_stays_and_no_other_but_the_newest(drive: Drive) -> None:
    bench = drive(tiny_experiment(rounds=5, evaluation={"keep": "every 2"}, **LIVELY))
    found = finished(bench)
    assert found == [names(0, 1), names(0, 2), names(0, 2, 3), names(0, 2, 4), names(0, 2, 4, 5), names(0, 2, 4, 5)]
    plain = drive(tiny_experiment(rounds=5, **LIVELY), name="plain")
    assert finished(plain)[-1] == names(0, 5)
    assert bench.bits() == plain.bits()
    report = verify(bench.path)
    assert (report.problems, report.leftovers) == (0, [])
    assert any("the model after round 5, 2 kept, " in line for line in report.lines())


def test_a_kept_model_is_the_one_that_its_round_made(drive: Drive, tmp_path: Path) -> None:
    bench = drive(tiny_experiment(rounds=4, evaluation={"keep": "every 3"}, **LIVELY))
    shorter = drive(tiny_experiment(rounds=3, **LIVELY), name="shorter")
    for each in (bench, shorter):
        finished(each)
    expected = global_tensors(shorter.run)
    out = tmp_path / "third.safetensors"
    for each in (bench, shorter):
        each.close()
    result = CliRunner().invoke(program, ["export", str(bench.path), "--global", "--round", "3", "--out", str(out)])
    assert result.exit_code == 0, result.output
    third = load_file(out)
    assert third.keys() == expected.keys()
    assert all(third[name].equal(expected[name]) for name in expected)
    with open_run(bench.path) as view:
        assert all(view.global_model(3)[name].equal(expected[name]) for name in expected)
        assert not all(view.global_model()[name].equal(expected[name]) for name in expected)
        with pytest.raises(LotteryFLError, match=r"round 2: its global model is not in .*: expected one of 0, 3, 4$"):
            view.global_model(2)
    result = CliRunner().invoke(program, ["export", str(bench.path), "--client=0", "--round=3", "--out", str(out)])
    assert (result.exit_code, "--round goes with --global" in result.output) == (2, True)


def test_the_best_is_kept_by_either_key(drive: Drive) -> None:
    one = drive(tiny_experiment(rounds=5, evaluation={"keep": "best"}, **LIVELY))
    other = drive(tiny_experiment(rounds=5, evaluation={"keep_best": True}, **LIVELY), name="other")
    assert finished(one) == finished(other)
    assert one.run.best_round == other.run.best_round
    assert one.bits() == other.bits()


def test_a_kept_model_that_has_changed_is_named(drive: Drive) -> None:
    bench = drive(tiny_experiment(rounds=2, evaluation={"keep": "every 1"}, **LIVELY))
    finished(bench)
    (bench.path / "models/round-0001.safetensors").write_bytes(bench.run.model_path(2).read_bytes())
    problems = [line for line in verify(bench.path).lines() if line.startswith("problem")]
    assert len(problems) == 1
    assert problems[0].startswith("problem: models/round-0001.safetensors: SHA-256 ")
    bench.run.model_path(1).unlink()
    assert any("round-0001.safetensors: " in line for line in verify(bench.path).lines())


def test_a_round_that_makes_no_model_keeps_none(drive: Drive) -> None:
    strategy = {"name": "ssfl", "target_density": 0.5}
    bench = drive(tiny_experiment(rounds=3, evaluation={"keep": "every 1"}, strategy=strategy))
    assert finished(bench)[-1] == names(0, 2, 3)
    assert verify(bench.path).problems == 0


@pytest.mark.parametrize("keep", ["every 0", "every", "all", "every 2 ", "every -1"])
def test_what_is_no_rule_is_refused(keep: str) -> None:
    with pytest.raises(ExperimentError, match=r"evaluation\.keep"):
        validate({"evaluation": {"keep": keep}}, "here")


def test_without_a_global_model_there_is_none_to_keep(drive: Drive) -> None:
    with pytest.raises(
        ExperimentError, match=r"evaluation\.keep = 'every 2': with strategy\.name = 'standalone' there"
    ):
        drive(tiny_experiment(strategy={"name": "standalone"}, evaluation={"keep": "every 2"}))
