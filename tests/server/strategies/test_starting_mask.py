"""Where sparse training starts: drawn or of θ_0, as dense in every tensor or by its size."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.models import create_model
from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.pruning.layerdensities import layer_densities
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.pruning.prune import apply_masks
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies.support.startingmask import starting_mask
from tests.support.bench import Bench, tiny_experiment
from tests.support.playing import W, model, play, settings

Drive = Callable[..., Bench]

BY_SIZE = {W: 29, "2.weight": 25}
"""Of 72 and 36 weights, which go as 18 / 72 and 15 / 36: the half of all."""


def masks_of(bench: Bench) -> dict[str, Tensor]:
    packed = bench.run.load_masks(bench.run.shared_mask.digest)
    return {name: unpack(mask, bench.run.table[name].shape) for name, mask in packed.items()}


@pytest.mark.parametrize("name", ["feddst", "fedrts"])
def test_where_nothing_is_said_the_mask_is_drawn_as_it_always_was(drive: Drive, name: str) -> None:
    """An older run, and an older record, means the same as before."""
    bench = drive(tiny_experiment(**settings(name, target_density=0.5)))
    generator = torch.Generator().manual_seed(derive_seed(bench.run.experiment.seed, "initial mask"))
    for each, mask in masks_of(bench).items():
        drawn = torch.rand(mask.shape, generator=generator).flatten()
        assert torch.equal(mask.flatten(), drawn > drawn.sort().values[mask.numel() // 2 - 1]), each


@pytest.mark.parametrize("name", ["feddst", "fedrts"])
def test_the_largest_of_initial_weights_are_kept_by_layer_size_and_densities_stay(drive: Drive, name: str) -> None:
    options = {"densities": "erk", "first_mask": "magnitude"}
    changes = settings(name, target_density=0.5, readjust_every=2, readjust_until=8, options=options)
    bench = drive(tiny_experiment(**changes, rounds=8, training={"epochs": 2}))
    initial = model(bench, 0)
    first = masks_of(bench)
    for each, mask in first.items():
        assert int(mask.sum()) == BY_SIZE[each]
        assert initial[each].abs()[mask].min() > initial[each].abs()[~mask].max()
    play(bench, 4)
    last = masks_of(bench)
    assert {each: int(mask.sum()) for each, mask in last.items()} == BY_SIZE
    assert any(not torch.equal(first[each], last[each]) for each in first), "nothing was ever exchanged"


def test_a_drawn_mask_of_a_tenth_lets_next_to_nothing_through_and_one_of_the_largest_weights_does() -> None:
    """What makes the difference in docs/experiments.md: logits hardly depend on the image under a drawn mask."""
    spreads: dict[tuple[str, str], float] = {}
    images = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for options in ({"first_mask": "random"}, {"first_mask": "magnitude", "densities": "erk"}):
        torch.manual_seed(0)
        net = create_model("fashion-mnist", "cnn").eval()
        experiment = tiny_experiment(strategy={"name": "feddst", "target_density": 0.1, "options": options})
        table = TensorTable.of(net)
        packed = starting_mask(experiment, table, named_tensors(net))
        apply_masks(net, {name: packedmasks.unpack(mask, table[name].shape) for name, mask in packed.items()})
        with torch.no_grad():
            spreads[options["first_mask"], options.get("densities", "")] = float(net(images).std(dim=0).mean())
    assert spreads["magnitude", "erk"] > 10 * spreads["random", ""]


def test_densities_by_size_are_of_all_together_and_none_is_above_1() -> None:
    shapes = [(10, 1, 5, 5), (20, 10, 5, 5), (50, 320), (10, 50), (0, 4)]
    sizes = [250, 5000, 16000, 500, 0]
    for density in (0.05, 0.1, 0.5, 0.9):
        found = layer_densities(shapes, density, "erk")
        assert all(0 < share <= 1 for share in found)
        kept = sum(share * size for share, size in zip(found, sizes, strict=True))
        assert kept == pytest.approx(density * sum(sizes))
        assert found[0] >= found[2] >= found[1]
    assert layer_densities(shapes, 0.3) == [0.3] * 5


@pytest.mark.parametrize("name", ["feddst", "fedrts"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"densities": "even"}, r"strategy\.options\.densities = 'even': expected 'uniform' or 'erk'"),
        ({"densities": 1}, r"strategy\.options\.densities = 1: expected 'uniform' or 'erk'"),
        ({"first": "random"}, r"strategy\.options\.first = 'random': .* has no such option, expected .*densities"),
    ],
)
def test_what_makes_no_sense_is_refused(drive: Drive, name: str, options: dict[str, str | int], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        drive(tiny_experiment(**settings(name, options=options), rounds=4))


@pytest.mark.parametrize("name", ["feddst", "fedrts"])
def test_another_first_mask_is_refused(drive: Drive, name: str) -> None:
    message = r"strategy\.options\.first_mask = 'largest': expected 'random' or 'magnitude'"
    with pytest.raises(ExperimentError, match=message):
        drive(tiny_experiment(**settings(name, options={"first_mask": "largest"})))
