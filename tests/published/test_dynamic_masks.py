"""Where masks begin, and how they go on, in the published code of FedDST, FedTiny and PruneFL.

Derived again, with none of their text here, from
- github.com/FedPruning/FedPruning at 70698813: api/pruning/init_scheme.py (magnitude_prune, sparse_update_step), as
  FedDST's clients, FedTiny's server ("fedtinyclean") and FedRTS's start ("ERK_magnitude") use it;
- github.com/bibikar/feddst at 25d61843: models.py (_weights_by_layer, layer_prune, prunefl_readjust), dst.py.
"""

import math

import pytest
import torch
from torch import Tensor

from lotteryfl.common.models import create_model
from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.pruning.layerdensities import layer_densities
from lotteryfl.common.pruning.parameters import named_masks, named_tensors
from lotteryfl.common.pruning.prune import apply_masks
from lotteryfl.common.pruning.regrowth import exchange_weights
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies import create_strategy
from tests.published.test_fedpruning import decay, erk
from tests.support.bench import tiny_experiment, tiny_mlp

Tensors = dict[str, Tensor]


def network() -> torch.nn.Module:
    torch.manual_seed(4)
    return create_model("fashion-mnist", "cnn")


def kept_of(values: Tensor, among: Tensor, count: int) -> Tensor:
    """Return a mask of the largest magnitudes among some places, as there: by a sort."""
    places = among.flatten().nonzero().flatten()
    best = places[values.flatten()[places].abs().sort(descending=True).indices[:count]]
    return torch.zeros(values.numel(), dtype=torch.bool).index_fill(0, best, True).view(values.shape)


@pytest.mark.parametrize("name", ["feddst", "fedrts"])
@pytest.mark.parametrize("density", [0.1, 0.5])
def test_fedprunings_start_is_that_of_magnitude_and_erk(name: str, density: float) -> None:
    """But for the weights at the edge of each tensor: densities are rounded otherwise there, and counts down."""
    options = {"first_mask": "magnitude", "densities": "erk"}
    strategy = create_strategy(tiny_experiment(strategy={"name": name, "target_density": density, "options": options}))
    net = network()
    table, initial = TensorTable.of(net), named_tensors(net)
    packed = strategy.masks_of_initial(table, initial)
    sizes = {spec.name: tuple(spec.shape) for spec in table if spec.prunable}
    for each, share in erk(sizes, density).items():
        found, size = unpack(packed[each], sizes[each]), math.prod(sizes[each])
        theirs = kept_of(initial[each], torch.ones(sizes[each]), int(size * share))
        assert abs(int(found.sum()) - int(theirs.sum())) <= 0.003 * size + 1
        smaller, larger = sorted((found, theirs), key=torch.sum)
        assert not bool((smaller & ~larger).any())


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_feddsts_own_densities_lie_between_uniform_and_erk(density: float) -> None:
    """It scales what ERK would leave out, not what it would keep: at a tenth they are nearly uniform."""
    table = TensorTable.of(network())
    shapes = {spec.name: tuple(spec.shape) for spec in table if spec.prunable}
    left_out = {n: 1 - (s[0] + s[1] + sum(s[2:])) / math.prod(s) for n, s in shapes.items()}
    weights = {n: math.prod(s) + s[0] for n, s in shapes.items()}  # biases count there
    factor = (1 - density) * sum(weights.values()) / sum(left_out[n] * weights[n] for n in shapes)
    by_size = dict(zip(shapes, layer_densities(list(shapes.values()), density, "erk"), strict=True))
    for name, share in left_out.items():
        theirs = 1 - factor * share
        assert min(density, by_size[name]) - 0.003 < theirs < max(density, by_size[name]) + 0.003
        assert abs(theirs - density) < 0.11


def exchanged(weight: Tensor, mask: Tensor, gradient: Tensor, share: float) -> Tensor:
    """Take the smallest of what is kept away, then bring as many of greatest gradient."""
    count = int(share * int(mask.sum()))
    left = kept_of(weight, mask, int(mask.sum()) - count)
    return left | kept_of(gradient, ~left, count)


def some(generator: torch.Generator, net: torch.nn.Module) -> tuple[Tensors, Tensors, Tensors]:
    """Return masks, weights under them, and gradients that are 0 where something is kept: nothing comes right back."""
    names = [name for name, parameter in net.named_parameters() if parameter.dim() > 1]
    shapes = {name: net.get_parameter(name).shape for name in names}
    masks = {name: torch.rand(shape, generator=generator) < 0.5 for name, shape in shapes.items()}
    weights = {name: torch.randn(shape, generator=generator) * masks[name] for name, shape in shapes.items()}
    gradients = {name: torch.randn(shape, generator=generator) * ~masks[name] for name, shape in shapes.items()}
    return masks, weights, gradients


def test_a_feddst_client_exchanges_as_in_fedpruning() -> None:
    generator = torch.Generator().manual_seed(1)
    net = network()
    masks, weights, gradients = some(generator, net)
    net.load_state_dict({**net.state_dict(), **weights})
    apply_masks(net, masks)
    share = decay(10, 0.5, 25)
    expected = {name: exchanged(weights[name], masks[name], gradients[name], share) for name in masks}
    exchange_weights(net, share, gradients)
    for name, found in named_masks(net).items():
        assert int((found.bool() ^ expected[name]).sum()) in (0, 2), (
            "a count is rounded there down, here to the nearest"
        )


def test_fedtinys_server_exchanges_as_in_fedpruning() -> None:
    """Of what was aggregated, where clients have sent gradients of pruned weights alone."""
    net = tiny_mlp()
    table, generator = TensorTable.of(net), torch.Generator().manual_seed(2)
    changes = {"target_density": 0.5, "readjust_rate": 0.4, "readjust_every": 3, "readjust_until": 9}
    strategy = create_strategy(tiny_experiment(rounds=20, strategy={"name": "fedtiny", **changes}))
    counts = {spec.name: spec.numel // 2 for spec in table if spec.prunable}
    for round_ in (3, 6):
        aggregated, expected = {"chosen": torch.zeros(1)}, {}
        for name, count in counts.items():
            shape = table[name].shape
            mask = kept_of(torch.rand(shape, generator=generator), torch.ones(shape), count)
            aggregated[name] = torch.randn(shape, generator=generator) * mask
            aggregated[f"gradients:{name}"] = torch.randn(shape, generator=generator) * ~mask
            share = decay(round_, 0.4, 9)
            expected[name] = exchanged(aggregated[name], mask, aggregated[f"gradients:{name}"], share)
            assert not torch.equal(mask, expected[name])
        found = strategy.next_masks(round_, table, aggregated)
        assert found is not None
        for name, mask in expected.items():
            assert torch.equal(unpack(found[name], mask.shape), mask)


def test_prunefl_keeps_as_many_as_feddsts_code_where_nothing_has_to_stay() -> None:
    """There from the most important weight on, as long as one brings more for its time than all before it together."""
    net = tiny_mlp()
    table, generator = TensorTable.of(net), torch.Generator().manual_seed(3)
    names = [spec.name for spec in table if spec.prunable]
    total = sum(table[name].numel for name in names)
    options = {"half_life": 1e308, "overhead": 0.2 / total}
    changes = {"target_density": 1.0, "readjust_rate": 1.0, "options": options}
    strategy = create_strategy(tiny_experiment(rounds=4, strategy={"name": "prunefl", **changes}))
    for spread in (1.0, 6.0):
        aggregated = {name: torch.ones(table[name].shape) for name in names}
        aggregated |= {f"importance:{spec.name}": torch.zeros(spec.shape) for spec in table}
        for name in names:
            shape = table[name].shape
            aggregated[f"importance:{name}"] = (spread * torch.randn(shape, generator=generator)).exp()
        ranked = torch.cat([aggregated[f"importance:{name}"].flatten() for name in names]).sort(descending=True).values
        gain, time, expected = 0.0, 0.2, 0
        for each in ranked.tolist():
            if expected and each < gain / time:
                break
            gain, time, expected = gain + each, time + 1, expected + 1
        found = strategy.next_masks(1, table, aggregated)
        assert found is not None
        kept = {name: unpack(found[name], table[name].shape) for name in names}
        assert sum(int(mask.sum()) for mask in kept.values()) == expected
        least = min(float(aggregated[f"importance:{name}"][mask].min()) for name, mask in kept.items() if mask.any())
        assert least == float(ranked[expected - 1])
