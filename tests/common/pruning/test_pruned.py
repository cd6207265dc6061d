"""Pruned weights of a plain model: their masks are made for those that have a gradient, and what they prune stays 0."""

import torch
from torch import nn

from lotteryfl.common import packedmasks
from lotteryfl.common.pruning.modeltensors import model_tensors
from lotteryfl.common.pruning.parameters import digest, named_tensors
from lotteryfl.common.pruning.prune import apply_masks, make_permanent
from lotteryfl.common.pruning.pruned import plain_weights, pruned_by
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.recipe import Recipe, TrainingSettings

MASK = torch.tensor([[1, 0, 1], [0, 1, 1]], dtype=torch.bool)


class Two(nn.Module):
    """Two layers, of which one takes part."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.used, self.spare = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.used(inputs)
        return output


def plain() -> Two:
    model = Two()
    apply_masks(model, {"used.weight": MASK, "spare.weight": MASK})
    make_permanent(model)
    return model


def test_a_plain_model_trains_as_the_pruned_one_does_and_what_has_no_gradient_is_left_alone() -> None:
    packed = {name: packedmasks.pack(MASK) for name in ("used.weight", "spare.weight")}
    data = (torch.randn(8, 3, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 2)
    settings = TrainingSettings(batch_size=4, momentum=0.9, weight_decay=0.1)
    model, pruned = plain(), Two()
    apply_masks(pruned, dict.fromkeys(packed, MASK))
    weights = pruned_by({item.name: item for item in model_tensors(model)}, packed)
    before = model.spare.weight._version
    train_by_recipe(model, data, Recipe(settings, 3, 0.0, 5), pruned=weights)
    train_by_recipe(pruned, data, Recipe(settings, 3, 0.0, 5))
    assert digest(named_tensors(model)) == digest(named_tensors(pruned))
    assert not model.used.weight[~MASK].any()
    assert model.spare.weight._version == before


def test_what_a_step_spoils_off_a_mask_is_zero_afterwards() -> None:
    model = plain()
    weights = pruned_by({item.name: item for item in model_tensors(model)}, {"used.weight": packedmasks.pack(MASK)})
    with plain_weights(model, weights) as found, torch.no_grad():
        assert torch.equal(found[0].mask, MASK.float())
        model.used.weight[~MASK] = torch.nan
    assert torch.equal(model.used.weight == 0, ~MASK)
