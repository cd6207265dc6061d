"""FLASC: bytes are of what is sparse, what is too small to be sent lives on, and what it refuses."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import lotteryfl
from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.results.view import open_run
from lotteryfl.server.strategies import create_strategy
from tests.support.bench import Bench, tiny_experiment, tiny_mlp
from tests.support.damage import problems
from tests.support.playing import W, assigned, model, play, settings

Drive = Callable[..., Bench]
SPARSE = {"density_down": 0.25, "density_up": 0.5}


def digits_experiment(name: str, density: float) -> Experiment:
    return Experiment.model_validate(
        {
            "rounds": 1,
            "clients": 2,
            "clients_per_round": 2,
            "task": {"name": "digits"},
            "round": {"broadcasts": False},
            "strategy": {"name": name, "target_density": density},
        }
    )


def test_what_is_sent_is_sparse_and_the_servers_model_is_not(drive: Drive) -> None:
    bench = play(drive(tiny_experiment(**settings("flasc", options=SPARSE), rounds=4)))
    kept = bench.run.load_masks(bench.run.shared_mask.digest)
    weights = sum(spec.numel for spec in bench.run.table if spec.prunable)
    assert sum(packedmasks.count(kept[name]) for name in kept) == int(0.25 * weights)
    sent, whole, mask = assigned(bench, 0), model(bench), unpack(kept[W], model(bench)[W].shape)
    assert torch.equal(sent[W], whole[W] * mask)
    assert whole[W].all()
    assert [list(bench.run.database.densities(client)) for client in range(3)] == [[int(0.5 * weights) / weights]] * 3
    assert problems(bench.path) == []


def test_a_weight_that_was_too_small_to_be_sent_comes_back_into_what_is(drive: Drive) -> None:
    """It is trained from 0, and the server adds that to what it has kept."""
    bench = drive(tiny_experiment(**settings("flasc", options=SPARSE), rounds=8, training={"lr": 0.3, "epochs": 2}))
    masks = []
    for _ in range(6):
        masks.append(unpack(bench.run.load_masks(bench.run.shared_mask.digest)[W], model(bench)[W].shape))
        before = model(bench)[W].clone()
        play(bench)
        off = ~masks[-1]
        moved = (model(bench)[W] - before)[off]
        assert moved.any(), "what has come as 0 was not trained"
        assert not torch.equal(model(bench)[W][off], moved), "what was not sent is forgotten"
    came = [int((new & ~old).sum()) for old, new in pairwise(masks)]
    assert sum(came) > 0


def test_bytes_are_those_of_the_densities(tmp_path: Path) -> None:
    """A value has 4 bytes, a mask a bit for each weight, both ways: at 0.1 that is 0.525 bytes a weight, not 4."""
    traffic = {}
    for name, density in (("fedavg", 1.0), ("flasc", 0.1)):
        experiment = digits_experiment(name, density)
        with lotteryfl.simulate(experiment, tmp_path / name, device="cpu") as view:
            found = view.assignments()
            traffic[name] = found[found["round"] == 1][["bytes_down", "bytes_up"]].mean()
    for direction in ("bytes_down", "bytes_up"):
        assert traffic["flasc"][direction] < 0.17 * traffic["fedavg"][direction], direction


def test_before_the_last_round_nobody_has_a_ticket(drive: Drive) -> None:
    """What clients have returned are changes: nobody's model."""
    bench = play(drive(tiny_experiment(**settings("flasc", options=SPARSE), rounds=2)), rounds=2)
    with open_run(bench.path) as view:
        assert torch.equal(view.ticket(0)[W], view.global_model()[W])
    play(bench)
    with open_run(bench.path) as view:
        found, shared = view.ticket(0)[W], view.global_model()[W]
        assert int(found.count_nonzero()) > found.numel() / 2
        assert float((found - shared).abs().mean()) < float(shared.abs().mean()), "a ticket is a model, not a change"
        assert not torch.equal(found, shared)


def test_everything_may_be_sent(drive: Drive) -> None:
    """Then it is FedAvg, but for how floating-point sums are rounded."""
    whole = {"density_down": 1.0, "density_up": 1.0}
    flasc = play(drive(tiny_experiment(**settings("flasc", options=whole)), name="flasc"))
    fedavg = play(drive(tiny_experiment(**settings("fedavg")), name="fedavg"))
    for name, values in model(fedavg).items():
        torch.testing.assert_close(model(flasc)[name], values)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"options": {"density_up": 0.0}}, r"strategy\.options\.density_up = 0\.0: expected a finite number of 1e-06"),
        ({"options": {"density_down": 1.5}}, r"strategy\.options\.density_down = 1\.5: expected .* to 1"),
        ({"options": {"density": 0.5}}, r"strategy\.options\.density = 0\.5: .* expected density_down or density_up"),
        ({"personal": ["2.bias"]}, r"strategy\.personal: '2\.bias' would be each client's own"),
    ],
)
def test_what_it_refuses(strategy: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        create_strategy(tiny_experiment(**settings("flasc", **strategy))).check(TensorTable.of(tiny_mlp()))
