"""Balanced ticket against its sources in plain torch and numpy, over gRPC."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from lotteryfl.common.packedmasks import unpack
from lotteryfl.server.store.rundir import RunDirectory
from tests.support import normed_task
from tests.support.papers import LR, STEPS, Model, Played, assert_close, copied, data, fresh, mean

MATRICES = ("0.weight", "3.weight", "5.weight")
WEIGHTS = 136


def log_prior(labels: Tensor) -> Tensor:
    counts = torch.bincount(labels, minlength=normed_task.CLASSES)
    return ((counts + 1) / (len(labels) + normed_task.CLASSES)).log()


def saliencies(net: nn.Module, inputs: Tensor, labels: Tensor) -> Model:
    weights = [net.get_parameter(name) for name in MATRICES]
    found = torch.autograd.grad(F.cross_entropy(net.eval()(inputs), labels), weights)
    return {n: (w * g).detach().abs().double() for n, w, g in zip(MATRICES, weights, found, strict=True)}


def top(scores: Mapping[str, Tensor], kept: int) -> Model:
    """Return ones for so many of the largest over all tensors."""
    least = sorted((float(score) for each in scores.values() for score in each.flatten()), reverse=True)[kept - 1]
    return {name: (each >= least).float() for name, each in scores.items()}


def lamp(weight: Tensor) -> Tensor:
    """Equation 4, as it is written."""
    squares = weight.double().square().flatten()
    return torch.tensor([float(s / squares[squares >= s].sum()) if s else 0.0 for s in squares]).view_as(weight)


def trained(model: Model, masks: Model, inputs: Tensor, labels: Tensor) -> Model:
    net = fresh().train()
    net.load_state_dict(model)
    for _ in range(STEPS):
        names, parameters = zip(*net.named_parameters(), strict=True)
        loss = F.cross_entropy(net(inputs) + log_prior(labels), labels)
        with torch.no_grad():
            for name, parameter, gradient in zip(names, parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.sub_(LR * gradient).mul_(masks.get(name, torch.ones(())))
    return copied(net.state_dict())


def shared_masks(run: RunDirectory) -> Model:
    packed = run.load_masks(run.shared_mask.digest)
    return {name: unpack(packed[name], run.table[name].shape).float() for name in MATRICES}


def test_balanced_ticket_prunes_in_stages_and_trains_by_each_clients_classes(play: Callable[..., Played]) -> None:
    """Two clients measure; all three train twice; the density goes 0.6, 0.325, 0.3 and the server has momentum."""
    strategy = {"name": "balanced-ticket", "target_density": 0.3, "options": {"first": 2, "pruned_by": 3}}
    played = play(strategy, last=3, rounds=3)
    run = played.run
    measured = [row.client for row in run.database.assignments(1)]
    assert len(measured) == 2
    found = [saliencies(fresh(), *data(run, client)) for client in measured]
    masks = top(mean(found, [normed_task.examples(client) for client in measured]), round(0.6 * WEIGHTS))
    model, velocity = copied(fresh().state_dict()), dict[str, Tensor]()
    for density in (0.3 + 0.3 / 8, 0.3):
        model = under(model, masks)
        results = [trained(model, masks, *data(run, client)) for client in range(3)]
        model = stepped(model, mean(results, [normed_task.examples(k) for k in range(3)]), velocity)
        masks = top({name: lamp(model[name]) for name in MATRICES}, round(density * WEIGHTS))
    for name, mask in shared_masks(run).items():
        assert torch.equal(mask, masks[name]), name
    assert_close(played.models[-1], under(model, masks), leaving_out=["1.num_batches_tracked"])


def stepped(model: Model, means: Model, velocity: Model) -> Model:
    """Take a step of SGD with lr = 0.5 and momentum = 0.9; statistics are their mean."""
    new = dict[str, Tensor]()
    for name, value in model.items():
        if "running" in name or "tracked" in name:
            new[name] = means[name].to(value.dtype)
            continue
        step = value - means[name].float()
        velocity[name] = 0.9 * velocity[name] + step if name in velocity else step
        new[name] = value - 0.5 * velocity[name]
    return new


def under(model: Model, masks: Mapping[str, Tensor]) -> Model:
    return {name: (value * masks[name] if name in masks else value).to(value.dtype) for name, value in model.items()}
