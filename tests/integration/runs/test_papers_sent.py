"""A method whose communication is sparse and whose training is not, against its paper's algorithm in plain torch."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from lotteryfl.common.packedmasks import unpack
from tests.support.papers import Model, Played, assert_close, copied, data, fresh, mean, train

MATRICES = ("0.weight", "3.weight", "5.weight")
BUFFERS = ("1.running_mean", "1.running_var", "1.num_batches_tracked")


def sparse(values: Mapping[str, Tensor], density: float) -> Model:
    """Leave the largest magnitudes of all matrices together; k is cut to a whole number."""
    flat = torch.cat([values[name].flatten() for name in MATRICES])
    kept = torch.zeros_like(flat)
    kept[flat.abs().topk(int(density * flat.numel())).indices] = 1
    parts = kept.split([values[name].numel() for name in MATRICES])
    masks = {name: part.view_as(values[name]) for name, part in zip(MATRICES, parts, strict=True)}
    return {name: value * masks.get(name, 1) for name, value in values.items()}


@pytest.mark.parametrize(("server", "decay"), [(None, 0.0), ({"optimizer": "adam", "lr": 0.01, "eps": 1e-3}, 0.1)])
def test_flasc_sends_the_largest_weights_and_gets_the_largest_changes_of_dense_training(
    play: Callable[..., Played], server: Mapping[str, object] | None, decay: float
) -> None:
    strategy = {"name": "flasc", "options": {"density_down": 0.5, "density_up": 0.2}}
    settings = {"server": {**server, "betas": [0.9, 0.99], "weight_decay": decay}} if server else {}
    played = play(strategy, aggregation={"weighting": "equal"}, **settings)
    shared = copied(fresh().state_dict())
    trained = [name for name, _ in fresh().named_parameters()]
    moments = {name: torch.zeros(2, *shared[name].shape) for name in trained}
    for round_ in (1, 2):
        start, results, changes = sparse(shared, 0.5), list[Model](), list[Model]()
        for client in range(3):
            net = fresh()
            net.load_state_dict(start)
            results.append(train(net, *data(played.run, client)))
            assert any(results[-1][name][start[name] == 0].any() for name in MATRICES), "what has not come trains too"
            changes.append(sparse({name: results[-1][name] - start[name] for name in trained}, 0.2))
        change, averaged = mean(changes, [1, 1, 1]), mean(results, [1, 1, 1])
        for name in trained:
            if server is None:
                shared[name] = (shared[name] + change[name]).float()
                continue
            first, second = moments[name]
            first.mul_(0.9).sub_(0.1 * change[name])
            second.mul_(0.99).add_(0.01 * change[name] ** 2)
            step = first / (1 - 0.9**round_) / ((second / (1 - 0.99**round_)).sqrt() + 1e-3)
            shared[name] = shared[name] * (1 - 0.01 * decay) - 0.01 * step
        shared |= {name: averaged[name].to(shared[name].dtype) for name in BUFFERS}
        assert_close(played.models[round_], shared, leaving_out=["1.num_batches_tracked"])
    masks = played.run.load_masks(played.run.shared_mask.digest)
    for name in MATRICES:
        expected = sparse(played.models[2], 0.5)[name] != 0
        assert torch.equal(unpack(masks[name], expected.shape), expected)
    assert all(row.ticket == "" for row in played.run.database.clients())
    assert [row.density for row in played.run.database.assignments(2)] == [pytest.approx(0.5, abs=0.01)] * 3
