"""How far one pruning goes: the target exactly, never a step in vain."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lotteryfl.client.work.prune import mask_change, prune_towards_target
from lotteryfl.common.pruning.parameters import copy_model, named_masks
from lotteryfl.common.pruning.prunable import prunable_tensors
from lotteryfl.common.pruning.prune import get_prune_summary
from lotteryfl.protos import lotteryfl_pb2 as pb

GLOBAL, LAYER = pb.Plan.GLOBAL, pb.Plan.LAYER


def model(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))


def step(
    net: nn.Module, rate: float, target: float, scope: "pb.Plan.Scope.ValueType" = GLOBAL, overshoot: bool = False
) -> tuple[bool, int]:
    """Prune once; return whether anything was pruned, and how many weights are left."""
    plan = pb.Plan.Prune(rate=rate, target_density=target, scope=scope, overshoot=overshoot)
    pruned = prune_towards_target(net, plan, "matrices")
    summary = get_prune_summary(net)
    return pruned, summary.total - summary.pruned


@pytest.mark.parametrize("scope", [GLOBAL, LAYER])
def test_the_last_step_stops_exactly_at_the_target(scope: "pb.Plan.Scope.ValueType") -> None:
    net = model(25, 200, 25)  # 5000 + 5000
    assert [step(net, 0.2, 0.5, scope) for _ in range(6)] == [
        (True, 8000),
        (True, 6400),
        (True, 5120),
        (True, 5000),
        (False, 5000),
        (False, 5000),
    ]


@pytest.mark.parametrize("scope", [GLOBAL, LAYER])
def test_with_overshoot_it_lands_where_the_official_code_does(scope: "pb.Plan.Scope.ValueType") -> None:
    net = model(25, 200, 25)
    left = [step(net, 0.2, 0.5, scope, overshoot=True) for _ in range(5)]
    assert left == [(True, 8000), (True, 6400), (True, 5120), (True, 4096), (False, 4096)]


def test_scopes_choose_different_weights() -> None:
    wide, narrow = 5000, 5000
    nets = {}
    for scope in (GLOBAL, LAYER):
        net = model(25, 200, 25)
        with torch.no_grad():
            next(net.parameters()).mul_(10)
        step(net, 0.2, 0.5, scope)
        nets[scope] = [row.pruned for row in get_prune_summary(net).rows]
    assert nets[LAYER] == [wide // 5, narrow // 5]
    assert nets[GLOBAL][0] < 200 < nets[GLOBAL][1]
    assert sum(nets[GLOBAL]) == 2000


def test_at_the_target_nothing_is_touched() -> None:
    net = model(10, 10)
    assert step(net, 0.2, 1.0) == (False, 100)
    assert named_masks(net) == {}
    step(net, 0.5, 0.5)
    before = {name: mask.clone() for name, mask in named_masks(net).items()}
    assert step(net, 0.5, 0.5) == (False, 50)
    assert all(torch.equal(mask, before[name]) for name, mask in named_masks(net).items())


def test_a_rate_too_small_for_one_weight_is_no_pruning() -> None:
    assert step(model(10, 10), 0.001, 0.5) == (False, 100)
    assert step(model(10, 10), 0.001, 0.5, LAYER) == (False, 100)


def test_a_remainder_of_rounding_layer_by_layer_is_no_pruning_for_ever() -> None:
    net = model(3, 11, 3, 11)  # 33 + 33 + 33: one weight too many is a third of a weight in each
    assert step(net, 1.0, 98 / 99, LAYER) == (False, 99)
    assert step(net, 1.0, 98 / 99, GLOBAL) == (True, 98)


@given(
    rate=st.floats(0.05, 1),
    target=st.floats(0.05, 1),
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    scope=st.sampled_from([GLOBAL, LAYER]),
)
def test_whatever_the_settings_it_only_prunes_and_comes_to_an_end(
    rate: float, target: float, sizes: list[int], scope: "pb.Plan.Scope.ValueType"
) -> None:
    net = model(*sizes)
    total = left = get_prune_summary(net).total
    for _ in range(200):
        pruned, now_left = step(net, rate, target, scope)
        assert pruned == (now_left < left)
        left = now_left
        if not pruned:
            break
    assert not pruned
    excess = left - round(target * total)
    if scope == GLOBAL:
        assert excess == 0 or (excess > 0 and round(rate * left) == 0)
    else:
        layers = len(sizes) - 1
        assert excess >= -layers / 2
        assert excess <= layers / 2 or round(rate * left) <= layers / 2


@pytest.mark.parametrize("scope", [GLOBAL, LAYER])
def test_masks_change_by_the_weights_that_one_keeps_and_the_other_does_not(scope: "pb.Plan.Scope.ValueType") -> None:
    """Against masks that are made of both values, one after the other."""
    plan = pb.Plan.Prune(rate=0.3, target_density=0.1, scope=scope)
    net = model(6, 8, 5)
    step(net, 0.2, 0.1, scope)
    earlier = {item.name: item.tensor.detach().clone() for item in prunable_tensors(net)}
    assert mask_change(net, earlier, plan, "matrices") == 0
    with torch.no_grad():
        for item in prunable_tensors(net):
            item.tensor.add_(0.2 * torch.randn_like(item.tensor))
    now = {item.name: item.tensor.detach().clone() for item in prunable_tensors(net)}
    change = mask_change(net, earlier, plan, "matrices")
    assert all(torch.equal(item.tensor, now[item.name]) for item in prunable_tensors(net)), "it is looked at only"
    kept = []
    for values in (earlier, now):
        other = copy_model(net)
        with torch.no_grad():
            for item in prunable_tensors(other):
                item.tensor.copy_(values[item.name])
        prune_towards_target(other, plan, "matrices")
        kept.append(torch.cat([mask.flatten() for mask in named_masks(other).values()]))
    assert change == int((kept[0] != kept[1]).sum()) / 88 > 0
