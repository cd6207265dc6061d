"""Rewinding: kept weights back to θ_0, pruned ones to exactly zero."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lotteryfl.common.pruning.parameters import digest, load_tensors, named_masks, named_tensors
from lotteryfl.common.pruning.prune import make_permanent, prune_fixed_amount, rewind
from tests.support.architectures import build


def rewindable() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return a pruned model with other values, and its initial ones."""
    model = build("batch norm")[0]
    initial = {name: tensor.clone() for name, tensor in named_tensors(model).items()}
    prune_fixed_amount(model, 0.5, verbose=False)
    load_tensors(model, {name: tensor + 1 for name, tensor in named_tensors(model).items()})
    return model, initial


@pytest.mark.parametrize("everything", [False, True])
def test_rewind_takes_kept_weights_back_and_pruned_ones_to_zero(everything: bool) -> None:
    model, initial = rewindable()
    rewind(model, initial, everything=everything)
    masks = named_masks(model)
    for name, tensor in named_tensors(model).items():
        if name in masks:
            assert torch.equal(tensor, initial[name].where(masks[name] == 1, 0.0))
            product = model.get_submodule(name[0]).weight
            assert isinstance(product, torch.Tensor)
            assert torch.equal(product, tensor)
        elif everything and name in dict(model.named_parameters()):
            assert torch.equal(tensor, initial[name])
        else:
            assert torch.equal(tensor, initial[name] + 1)


def test_rewind_works_on_a_dense_model_too() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    rewind(model, {"0.weight": torch.eye(2)})
    assert torch.equal(model[0].get_parameter("weight"), torch.eye(2))


def test_p13_initial_values_are_never_aliased() -> None:
    """P13: training after a rewind does not change θ_0."""
    model, initial = rewindable()
    before = digest(initial)
    rewind(model, initial, everything=True)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    model(torch.randn(7, 6)).pow(2).sum().backward()
    optimizer.step()
    make_permanent(model)
    assert digest(initial) == before


@pytest.mark.parametrize(
    ("change", "everything", "message"),
    [
        (lambda t: t.pop("3.weight"), False, "initial values lack '3.weight'"),
        (lambda t: t.pop("3.bias"), True, "initial values lack '3.bias'"),
        (
            lambda t: t.update({"0.weight_orig": t.pop("0.weight")}),
            False,
            "initial values for '0.weight_orig': the model has no tensor of this name",
        ),
        (
            lambda t: t.update({"0.weight": torch.zeros(3)}),
            False,
            "'0.weight' has shape [3], expected [9, 6]",
        ),
    ],
)
def test_p10_rewind_refuses_what_does_not_fit_and_changes_nothing(
    change: Callable[[dict[str, Tensor]], object], everything: bool, message: str
) -> None:
    """P10: a missing or unexpected name is an error."""
    model, initial = rewindable()
    change(initial)
    before = digest(named_tensors(model))
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole sentence is compared below
        rewind(model, initial, everything=everything)
    assert str(error.value) == message
    assert digest(named_tensors(model)) == before


@pytest.mark.parametrize("everything", [False, True])
def test_initial_values_that_are_the_models_own_memory_are_refused(everything: bool) -> None:
    """A state dict has no copies: it has been trained with the model."""
    model = build("batch norm")[0]
    initial = model.state_dict()
    prune_fixed_amount(model, 0.5, verbose=False)
    with pytest.raises(
        ValueError, match=r"^initial value of '0\.weight' is the model's own memory .*: expected a copy"
    ):
        rewind(model, initial, everything=everything)
    rewind(model, {name: tensor.clone() for name, tensor in initial.items()}, everything=everything)
