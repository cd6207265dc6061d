"""Gradients over all examples, against one backward through one batch."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn
from torch.utils.data import TensorDataset

from lotteryfl.common.pruning.parameters import named_masks, named_tensors
from lotteryfl.common.pruning.prune import prune_fixed_amount
from lotteryfl.common.training.gradients import mean_gradients


def data(count: int = 11) -> TensorDataset:
    random = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(count, 5, generator=random), torch.randint(3, (count,), generator=random))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)).double()


def test_batches_add_up_to_the_gradient_of_the_mean_loss() -> None:
    net, examples = network(), TensorDataset(data().tensors[0].double(), data().tensors[1])
    found = mean_gradients(net, examples, batch_size=4)
    twin = network().eval()
    F.cross_entropy(twin(examples.tensors[0]), examples.tensors[1]).backward()
    expected = {name: parameter.grad for name, parameter in twin.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name])


def test_pruned_weights_have_gradients_too_and_nothing_is_left_behind() -> None:
    net = network().float()
    prune_fixed_amount(net, 0.5, verbose=False)
    with torch.no_grad():
        for layer in (net[0], net[4]):
            layer.get_parameter("weight_orig").mul_(layer.get_buffer("weight_mask"))
    before = {name: tensor.clone() for name, tensor in named_tensors(net).items()}
    masks = {name: mask.clone() for name, mask in named_masks(net).items()}
    found = mean_gradients(net, data())
    off = masks["4.weight"] == 0
    assert found["4.weight"][off].any()
    assert all(torch.equal(tensor, before[name]) for name, tensor in named_tensors(net).items())
    assert all(torch.equal(mask, masks[name]) for name, mask in named_masks(net).items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.training
