"""A run of SSFL's protocol against its published code's steps, taken in plain torch.

Derived again from github.com/riohib/SSFL at 83fc11da, none of whose text is here: api/sparsity/saliency.py and
saliency_utils.py (scores and mask), api/trainers/model_trainer.py and api/model/sparse_model.py (a step),
api/algorithms/ssfl_runner.py (the mean), api/model/resnet.py (the model).
"""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.nn.utils import prune

import lotteryfl
from lotteryfl.common.experiment.experiment import Experiment, changed
from lotteryfl.common.models import create_model
from lotteryfl.common.tasks import load_task
from lotteryfl.protocols import protocol
from tests.support.cifar import write_ten

MODEL = "cnn-nodrop"


def batches(experiment: Experiment) -> list[tuple[Tensor, Tensor]]:
    """Return every client's training data, as one batch."""
    task = load_task(experiment)
    parts = [task.client_data(client).train for client in range(experiment.clients)]
    return [(part[:][0], part[:][1]) for part in parts]


def model_of(tensors: Mapping[str, Tensor]) -> nn.Module:
    model = create_model("cifar10", MODEL)
    model.load_state_dict(tensors)
    return model


def layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    return {name: part for name, part in model.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}


def mean_saliencies(initial: Mapping[str, Tensor], data: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}
    for inputs, labels in data:
        model = model_of(initial).eval()
        F.cross_entropy(model(inputs), labels).backward()
        for name, layer in layers(model).items():
            assert layer.weight.grad is not None
            score = (layer.weight.grad * layer.weight.detach()).abs()
            sums[name] = sums[name] + score if name in sums else score
    return {name: total / len(data) for name, total in sums.items()}


def a_step(
    start: Mapping[str, Tensor], masks: Mapping[str, Tensor], batch: tuple[Tensor, Tensor], lr: float, clip: float
) -> dict[str, Tensor]:
    model = model_of(start).train()
    for name, layer in layers(model).items():
        prune.custom_from_mask(layer, "weight", masks[name])
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.0, weight_decay=5e-4)
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    for layer in layers(model).values():
        prune.remove(layer, "weight")
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("clip", [10.0, 0.05])
def test_partition_saliency_mask_step_and_mean_are_those_of_the_published_code(clip: float, tmp_path: Path) -> None:
    choices = {
        "clients": 2,
        "clients_per_round": 2,
        "rounds": 2,
        "task.model": MODEL,
        "task.data_dir": str(write_ten(tmp_path / "data", 12)),
        "evaluation.keep": "every 1",
        "strategy.saliency_examples": 0,
        "training.batch_size": 1000,
        "training.epochs": 1,
        "training.augment": [],
        "training.clip_grad_norm": clip,
    }
    experiment = changed(protocol("ssfl-cifar10").experiment, [f"{key}={value}" for key, value in choices.items()])
    data = batches(experiment)
    assert [len(labels) for _, labels in data] == [30, 30]
    with lotteryfl.simulate(experiment, tmp_path / "run", device="cpu") as view:
        initial, found, masks = view.global_model(0), view.global_model(2), view.masks(0)

    scores = mean_saliencies(initial, data)
    everything = torch.cat([score.flatten() for score in scores.values()])
    threshold = torch.topk(everything, int(len(everything) * 0.5)).values[-1]
    expected = {name: score >= threshold for name, score in scores.items()}
    for name, mask in expected.items():
        assert torch.equal(masks[f"{name}.weight"], mask)

    start = {name: tensor.clone() for name, tensor in initial.items()}
    for name, mask in expected.items():
        start[f"{name}.weight"] *= mask
    lr = 0.1 * 0.998**1  # its first round that trains is its round 1
    stepped = [
        a_step(start, {name: mask.float() for name, mask in expected.items()}, batch, lr, clip) for batch in data
    ]
    for name, tensor in found.items():
        mean = (stepped[0][name] + stepped[1][name]) / 2
        torch.testing.assert_close(tensor, mean, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(tensor, start[name], rtol=1e-5, atol=1e-6)


def test_the_model_is_that_of_the_published_code() -> None:
    """ResNet-18 with group norms of 32 groups: the same function of the same tensors, in the same order."""
    torch.manual_seed(0)
    model = create_model("cifar10", "resnet18-gn").eval()
    tensors = iter(model.state_dict().values())

    def convolved(maps: Tensor, stride: int = 1) -> Tensor:
        weight = next(tensors)
        return F.conv2d(maps, weight, stride=stride, padding=weight.shape[-1] // 2)

    def normed(maps: Tensor) -> Tensor:
        return F.group_norm(maps, 32, next(tensors), next(tensors))

    images = torch.randn(2, 3, 32, 32)
    maps = F.relu(normed(convolved(images)))
    for width, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        branch = normed(convolved(F.relu(normed(convolved(maps, stride)))))
        shortcut = maps if maps.shape[1] == width else normed(convolved(maps, stride))
        maps = F.relu(branch + shortcut)
    expected = F.linear(F.avg_pool2d(maps, 4).flatten(1), next(tensors), next(tensors))
    assert next(tensors, None) is None
    with torch.no_grad():
        torch.testing.assert_close(model(images), expected)
