"""Weights that leave a mask, and those that enter it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lotteryfl.common.pruning.parameters import named_masks, named_tensors
from lotteryfl.common.pruning.prune import prune_fixed_amount
from lotteryfl.common.pruning.regrowth import exchange_weights


def test_by_hand() -> None:
    net = nn.Linear(6, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[5.0, -1.0, 3.0, 2.0, 0.1, 0.2]]))
    prune_fixed_amount(net, 2, verbose=False)  # the last two
    gradient = torch.tensor([[9.0, 9.0, 9.0, 9.0, 0.5, -0.7]])
    exchange_weights(net, 0.25, {"weight": gradient})  # one of four
    assert named_masks(net)["weight"].tolist() == [[1, 0, 1, 1, 0, 1]]
    assert named_tensors(net)["weight"].tolist() == [[5, 0, 3, 2, 0, 0]]  # what enters starts from 0
    assert net(torch.ones(1, 6)).item() == 10


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31))
def test_density_stays_and_neither_side_is_mixed_up(pruned: float, rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(7, 9), nn.Linear(9, 4))
    prune_fixed_amount(net, pruned, verbose=False, scope="layer")
    before = {name: mask.clone() for name, mask in named_masks(net).items()}
    values = {name: named_tensors(net)[name].clone() for name in before}
    gradients = {name: torch.randn_like(mask) for name, mask in before.items()}
    exchange_weights(net, rate, gradients)
    for name, mask in named_masks(net).items():
        old = before[name] == 1
        left, entered, stayed = old & (mask == 0), ~old & (mask == 1), old & (mask == 1)
        assert int(left.sum()) == int(entered.sum()) == min(round(rate * int(old.sum())), int((~old).sum()))
        if left.any() and stayed.any():
            assert values[name][left].abs().max() <= values[name][stayed].abs().min()
        outside = ~old & (mask == 0)
        if entered.any() and outside.any():
            assert gradients[name][entered].abs().min() >= gradients[name][outside].abs().max()
        now = named_tensors(net)[name]
        assert torch.equal(now[stayed], values[name][stayed])
        assert not now[~stayed].any()


def test_a_dense_tensor_stays_as_it_is() -> None:
    net = nn.Linear(3, 3)
    exchange_weights(net, 0.5, {})
    assert not named_masks(net)


def test_what_is_missing_is_named() -> None:
    net = nn.Linear(3, 3)
    prune_fixed_amount(net, 2, verbose=False)
    with pytest.raises(ValueError, match=r"gradient of 'weight': shape None, expected \[3, 3\]"):
        exchange_weights(net, 0.5, {})
    with pytest.raises(ValueError, match=r"gradient of 'weight': shape \[9\], expected \[3, 3\]"):
        exchange_weights(net, 0.5, {"weight": torch.zeros(9)})
    with pytest.raises(ValueError, match=r"rate=1.5: expected 0 to 1"):
        exchange_weights(net, 1.5, {})
