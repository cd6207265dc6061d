"""Structured pruning against torch's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from lotteryfl.common.pruning.parameters import named_masks
from lotteryfl.common.pruning.prune import prune_fixed_amount
from lotteryfl.common.pruning.rows import prune_rows


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 9, 3), nn.Flatten(), nn.Linear(9 * 16, 5))


@settings(deadline=None)
@given(st.lists(st.floats(0, 0.6), min_size=1, max_size=3))
def test_rows_are_those_of_torch_applied_again_and_again(shares: list[float]) -> None:
    ours, theirs = convolutional(), convolutional()
    left = {0: 12, 2: 9}
    for share in shares:
        prune_rows(ours, share)
        for index in left:
            count = min(round(share * left[index]), left[index] - 1)
            left[index] -= count
            prune.ln_structured(theirs[index], "weight", amount=count, n=1, dim=0)
    masks = named_masks(ours)
    for index in left:
        expected = theirs[index].get_buffer("weight_mask")
        assert torch.equal(masks.get(f"{index}.weight", torch.ones_like(expected)), expected)
    assert "4.weight" not in masks


def test_the_output_layer_and_one_row_of_every_other_stay() -> None:
    net = convolutional()
    summary = prune_rows(net, 1.0)
    assert summary.total - summary.pruned == 1 * 27 + 1 * 108 + 9 * 16 * 5


def test_equal_norms_go_in_order() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    nn.init.ones_(net[0].get_parameter("weight"))
    prune_rows(net, 0.5)
    assert named_masks(net)["0.weight"].tolist() == [[0] * 3, [0] * 3, [1] * 3, [1] * 3]


def test_what_is_pruned_already_counts_as_zero_and_stays_pruned() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].get_parameter("weight").copy_(torch.tensor([[5.0, 1.0], [2.0, 2.5]]))
        net[1].get_parameter("weight").fill_(10)
    prune_fixed_amount(net, 1, verbose=False)  # the 1
    with torch.no_grad():
        net[0].get_parameter("weight_orig")[0, 1] = 100  # off the mask: must not be seen
    prune_rows(net, 0.5)
    assert named_masks(net)["0.weight"].tolist() == [[1, 0], [0, 0]]  # norms 5 and 4.5


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=rf"share={share}: expected 0 to 1"):
        prune_rows(convolutional(), share)
