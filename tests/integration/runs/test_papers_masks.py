"""Methods of one mask that follows gradients of pruned weights, against their papers in plain torch, over gRPC."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.distributions import Beta

from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.randomness import generator
from lotteryfl.common.tensors.file import open_file
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies.support.drawing import drawing
from tests.support import normed_task
from tests.support.papers import LR, SEED, STEPS, Model, Played, assert_close, copied, data, fresh, mean, train

MATRICES = ("0.weight", "3.weight", "5.weight")
EXAMPLES = tuple(normed_task.examples(k) for k in range(3))
COUNTER = "1.num_batches_tracked"


def shared_masks(run: RunDirectory) -> Model:
    """The mask that everybody starts from next, as ones and zeros."""
    packed = run.load_masks(run.shared_mask.digest)
    return {name: unpack(packed[name], run.table[name].shape).float() for name in MATRICES}


def under(model: Model, masks: Mapping[str, Tensor]) -> Model:
    return {name: (value * masks[name] if name in masks else value).to(value.dtype) for name, value in model.items()}


def gradients(net: nn.Module, inputs: Tensor, labels: Tensor) -> Model:
    """Return those of all parameters, pruned weights too."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(F.cross_entropy(net(inputs), labels), parameters), strict=True))


def averaged(results: Sequence[Model], examples: Sequence[int] = EXAMPLES) -> Model:
    return {name: value.float() for name, value in mean(results, examples).items()}


def assert_same_masks(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name, mask in expected.items():
        assert torch.equal(found[name], mask.float()), name


# ---- PruneFL, Algorithms 1 and 2


def trained_with_squares(model: Model, masks: Model, inputs: Tensor, labels: Tensor) -> tuple[Model, Model]:
    """Train under the mask; return the model, and the squares of what the gradients add up to."""
    net = fresh().train()
    net.load_state_dict(model)
    sums = {name: torch.zeros_like(parameter) for name, parameter in net.named_parameters()}
    for _ in range(STEPS):
        found = gradients(net, inputs, labels)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                sums[name] += found[name]
                parameter.sub_(LR * found[name])
                parameter.mul_(masks.get(name, torch.ones(())))
    return copied(net.state_dict()), {name: total**2 for name, total in sums.items()}


def reconfigured(
    model: Model, masks: Model, squares: Model, share: float, most: float, overhead: float
) -> tuple[Model, bool]:
    """Return the next mask by Algorithm 2, and whether it was Γ that ended it: a share of what is kept may go."""
    stays: Model = {}
    for name in MATRICES:
        kept = (masks[name].flatten() != 0).nonzero().flatten()
        order = model[name].flatten()[kept].abs().argsort()
        mask = torch.zeros(masks[name].numel())
        mask[kept[order[int(share * len(kept)) :]]] = 1
        stays[name] = mask
    gain = sum(float(squares[name].sum()) for name in squares if name not in MATRICES)
    gain += sum(float((squares[name].flatten() * stays[name]).sum()) for name in MATRICES)
    number = sum(int(mask.sum()) for mask in stays.values())
    time = overhead * 136 + number
    others = [(float(squares[n].flatten()[i]), n, i) for n in MATRICES for i in range(len(stays[n])) if not stays[n][i]]
    for square, name, place in sorted(others, reverse=True):
        if number >= most * 136:
            break
        if square < gain / time:
            return {name: mask.view_as(model[name]) for name, mask in stays.items()}, True
        stays[name][place] = 1
        gain, time, number = gain + square, time + 1, number + 1
    return {name: mask.view_as(model[name]) for name, mask in stays.items()}, False


@pytest.mark.parametrize(("most", "overhead", "by_gain"), [(0.9, 0.5, [True, True]), (0.6, 5.0, [False, False])])
def test_prunefl_keeps_what_is_worth_its_time(
    play: Callable[..., Played], most: float, overhead: float, by_gain: list[bool]
) -> None:
    """Client 1 prunes first, alone; then all do."""
    options = {"initial_client": 1, "half_life": 1, "overhead": overhead}
    strategy = {"name": "prunefl", "target_density": most, "readjust_every": 1, "options": options}
    played = play(strategy)
    assert [row.client for row in played.run.database.assignments(1)] == [1]
    masks = {name: torch.ones_like(fresh().get_parameter(name)) for name in MATRICES}
    model, ended = copied(fresh().state_dict()), []
    for share, clients in ((0.25, [1]), (0.125, [0, 1, 2])):  # 0.5, halved every round
        results = [trained_with_squares(model, masks, *data(played.run, client)) for client in clients]
        examples = [EXAMPLES[client] for client in clients]
        model, squares = (averaged(each, examples) for each in map(list, zip(*results, strict=True)))
        masks, by = reconfigured(model, masks, squares, share, most, overhead)
        model[COUNTER] = results[-1][0][COUNTER]
        model = under(model, masks)
        ended.append(by)
    assert ended == by_gain
    assert_same_masks(shared_masks(played.run), masks)
    assert_close(played.models[2], model)


# ---- FedRTS, Algorithm 1


def largest(values: Tensor, among: Tensor, count: int) -> Tensor:
    """Return ones for so many of the largest magnitudes, out of those that are among."""
    found = torch.zeros(values.numel())
    places = among.flatten().nonzero().flatten()
    found[places[values.flatten()[places].abs().topk(min(count, len(places))).indices]] = 1
    return found.view_as(values)


def test_fedrts_draws_its_mask_by_what_rounds_say_of_weights(play: Callable[..., Played]) -> None:
    """The first round looks at kept weights, the second at pruned ones too, and draws."""
    gamma, strength = 0.3, 5.0
    options = {"gamma": gamma, "strength": strength}
    strategy = {"name": "fedrts", "target_density": 0.5, "readjust_every": 2, "readjust_rate": 0.6, "options": options}
    played = play(strategy, rounds=8)
    run = played.run
    (first,) = {row.mask for row in run.database.assignments(1)}
    packed = run.load_masks(first)
    masks = {name: unpack(packed[name], run.table[name].shape).float() for name in MATRICES}
    model = under(copied(fresh().state_dict()), masks)
    alpha, beta = ({name: torch.ones_like(masks[name]) for name in MATRICES} for _ in range(2))
    for round_ in (1, 2):
        share = 0.6 / 2 * (1 + math.cos(round_ * math.pi / 4))
        results = [train(net_of(model), *data(run, client), masks) for client in range(3)]
        slopes = [gradients(net_of(result).eval(), *data(run, k)) for k, result in enumerate(results)]
        model = averaged(results)
        for name in MATRICES:
            kept = masks[name]
            core = int(kept.sum()) - int(share * int(kept.sum()))
            by_mean = largest(model[name], kept, core)
            said = torch.zeros_like(kept)
            for result, slope in zip(results, slopes, strict=True):
                vote = largest(result[name], kept, core)
                if round_ == 2:
                    vote += largest(slope[name], 1 - kept, int(share * int(kept.sum())))
                said += vote / 3
            worth = (1 - gamma) * torch.where(kept == 1, by_mean, torch.full_like(kept, 0.5)) + gamma * said
            looked_at = torch.ones_like(kept) if round_ == 2 else kept
            alpha[name] += strength * worth * looked_at
            beta[name] += strength * (1 - worth) * looked_at
    with drawing(run.experiment, "next masks", 2):
        for name in MATRICES:
            masks[name] = largest(
                Beta(alpha[name], beta[name]).sample(), torch.ones_like(alpha[name]), alpha[name].numel() // 2
            )
    model[COUNTER] = results[-1][COUNTER]
    assert_same_masks(shared_masks(run), masks)
    own = {f"alpha:{name}": alpha[name] for name in MATRICES} | {f"beta:{name}": beta[name] for name in MATRICES}
    assert_close(played.models[2], {**under(model, masks), **own})


def net_of(model: Model) -> nn.Module:
    net = fresh()
    net.load_state_dict(model)
    return net


# ---- FedTiny, Algorithms 1 and 2

STATISTICS = ("1.running_mean", "1.running_var")


def of_model(tensors: Model) -> Model:
    return {name: tensors[name] for name in fresh().state_dict()}


def candidates(model: Model) -> list[Model]:
    """Return the masks of four candidates of half the weights: by magnitude, with noise of up to 0.8."""
    sizes = np.array([model[name].numel() for name in MATRICES])
    noise = generator(SEED, "candidates").uniform(0.2, 1.8, (4, 3))
    noise[0] = 1
    found = []
    for shares in 0.5 * noise * sizes.sum() / (noise * sizes).sum(axis=1, keepdims=True):
        ends = np.floor(np.cumsum(np.minimum(shares, 1) * sizes) + 0.5).astype(int)
        counts = np.diff(ends, prepend=0)
        found.append(
            {
                name: largest(model[name], torch.ones_like(model[name]), k)
                for name, k in zip(MATRICES, counts, strict=True)
            }
        )
    return found


def test_fedtiny_chooses_by_statistics_of_all_and_grows_by_gradients(play: Callable[..., Played]) -> None:
    """Two rounds choose; the third trains, and exchanges half of `readjust_rate` of two tensors."""
    options = {"candidates": 4, "noise": 0.8, "blocks": "[35].*"}
    strategy = {"name": "fedtiny", "target_density": 0.5, "readjust_every": 3, "readjust_rate": 0.6, "options": options}
    played = play(strategy, last=3, rounds=12)
    run, model = played.run, copied(fresh().state_dict())
    pool = candidates(model)
    losses = torch.zeros(3, 4)
    for number, masks in enumerate(pool):
        seen = []
        for client in range(3):
            net = net_of(under(model, masks)).train()
            norm = net.get_submodule("1")
            assert isinstance(norm, nn.BatchNorm1d)
            norm.momentum = None
            net(data(run, client)[0])
            seen.append({name: value for name, value in net.state_dict().items() if name in STATISTICS})
        statistics = averaged(seen)
        row = torch.cat([statistics[name] for name in STATISTICS])
        torch.testing.assert_close(played.models[1]["statistics"][number], row)
        net = net_of(under({**model, **statistics}, masks)).eval()
        for client in range(3):
            inputs, labels = data(run, client)
            losses[client, number] = F.cross_entropy(net(inputs), labels).detach()
    chosen = int(averaged([{"": each} for each in losses])[""].argmin())
    assert chosen > 0, "no test of it"
    assert played.models[2]["chosen"].tolist() == [chosen]
    masks = pool[chosen]
    assert_close(of_model(played.models[1]), model)
    assert_close(of_model(played.models[2]), under(model, masks))

    results = [train(net_of(under(model, masks)), *data(run, client), masks) for client in range(3)]
    slopes = [gradients(net_of(result).eval(), *data(run, k)) for k, result in enumerate(results)]
    model = averaged(results)
    model[COUNTER] = results[-1][COUNTER]
    for name in ("3.weight", "5.weight"):
        moved = int(0.3 * int(masks[name].sum()))
        sent = [{"": slope[name] * largest(slope[name], 1 - masks[name], moved)} for slope in slopes]
        coming = largest(averaged(sent)[""], 1 - masks[name], moved)
        masks[name] = coming + largest(model[name], masks[name], int(masks[name].sum()) - moved)
        assert moved > 0
        assert coming.sum() == moved
    assert_same_masks(shared_masks(run), masks)
    assert_close(of_model(played.models[3]), under(model, masks))
    up = {key for key in open_file(run.path / run.database.clients()[0].ticket) if "gradients" in key}
    assert up == {"dense/gradients:3.weight", "dense/gradients:5.weight"}
