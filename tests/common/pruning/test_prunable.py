"""Which tensors can be pruned: one rule for plain, frozen, parametrized, weight-normed and listed ones."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from lotteryfl.common.pruning.modeltensors import model_tensors
from lotteryfl.common.pruning.parameters import copy_model, named_masks, named_tensors
from lotteryfl.common.pruning.prunable import explain, is_prunable, prunable_tensors, why_left_out
from lotteryfl.common.pruning.prune import (
    apply_masks,
    density,
    get_prune_params,
    get_prune_summary,
    make_permanent,
    prune_fixed_amount,
)
from lotteryfl.common.pruning.rows import prune_rows
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.loop import train
from lotteryfl.common.wire.table import TensorTable
from tests.support.separable import problem


def prunable(model: nn.Module, rule: str = "matrices") -> list[str]:
    return [item.name for item in prunable_tensors(model, rule)]  # type: ignore[arg-type]


def reasons(model: nn.Module) -> dict[str, str]:
    return {item.name: why_left_out(item, "matrices") for item in model_tensors(model)}


def old_weight_norm(module: nn.Module, dim: int | None = 0) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it is deprecated, and in people's models
        return nn.utils.weight_norm(module, dim=dim)  # type: ignore[arg-type]


def weight_of(model: nn.Sequential) -> Tensor:
    weight = model[0].weight
    assert isinstance(weight, Tensor)
    return weight.detach()


WEIGHT_NORMS: list[Callable[..., nn.Module]] = [old_weight_norm, parametrizations.weight_norm]
V = ["{}.weight_v", "{}.parametrizations.weight.original1"]


# ---- frozen


def test_what_does_not_train_is_not_pruned_unless_asked() -> None:
    model = nn.Sequential(nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 8))
    assert prunable(model) == ["1.weight"]
    assert TensorTable.of(model)["0.weight"].prunable is False
    before = model[0].get_parameter("weight").detach().clone()
    assert prune_fixed_amount(model, 0.5, verbose=False).total == 64
    assert torch.equal(model[0].get_parameter("weight"), before)
    assert prunable(model, "every-weight") == ["0.weight", "1.weight"]
    assert prune_fixed_amount(model, 0.5, verbose=False, prunable="every-weight").total == 128


def test_every_parameter_is_pruned_whatever_its_name_and_shape() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8).requires_grad_(False))
    model.register_parameter("scale", nn.Parameter(torch.tensor(2.0)))
    names = [f"{layer}.{each}" for layer in range(3) for each in ("weight", "bias")]
    assert prunable(model, "every-parameter") == ["scale", *names]
    assert prune_fixed_amount(model, 0.5, verbose=False, prunable="every-parameter").total == 2 * 72 + 16 + 1
    assert density(model, "every-parameter") == pytest.approx(0.5, abs=0.01)
    prune_rows(model, 0.5, prunable="every-parameter")
    assert named_masks(model)["1.bias"].sum() <= 4


def test_what_was_pruned_before_it_was_frozen_counts_and_stays() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    prune_fixed_amount(model, 0.5, verbose=False)
    mask = named_masks(model)["0.weight"].clone()
    model.requires_grad_(False)
    assert density(model) == 0.5
    model[1].requires_grad_(True)
    summary = prune_fixed_amount(model, 0.5, verbose=False)
    assert torch.equal(named_masks(model)["0.weight"], mask)
    assert summary == get_prune_summary(model)
    assert summary.total == 128


# ---- weight norm


@pytest.mark.parametrize(("norm", "name"), list(zip(WEIGHT_NORMS, V, strict=True)))
def test_weight_norms_direction_is_a_weight_and_its_magnitude_never(norm: Callable[..., nn.Module], name: str) -> None:
    model = nn.Sequential(norm(nn.Linear(8, 16)), nn.ReLU(), norm(nn.Conv1d(16, 3, 1)))
    for rule in ("matrices", "every-weight"):
        assert prunable(model, rule) == [name.format(0), name.format(2)]
    assert get_prune_params(model)[1] == 8 * 16 + 16 * 3
    assert "magnitudes of a weight norm" in reasons(model).values()
    prune_fixed_amount(model, 10, verbose=False)
    assert prunable(model) == [name.format(0), name.format(2)]


@pytest.mark.parametrize(("norm", "name"), list(zip(WEIGHT_NORMS, V, strict=True)))
@pytest.mark.parametrize("dim", [0, 1, None])
def test_a_row_that_is_pruned_whole_is_zero_and_the_others_keep_their_bits(
    norm: Callable[..., nn.Module], name: str, dim: int | None
) -> None:
    model = nn.Sequential(norm(nn.Linear(6, 4), dim=dim))
    mask = torch.ones(4, 6)
    if dim is None:
        mask[:] = 0
    else:
        mask.select(dim, 2)[:] = 0
    before = weight_of(model).clone()
    apply_masks(model, {name.format(0): mask})
    inputs = torch.randn(5, 6)
    output = model(inputs)
    assert torch.equal(weight_of(model), before * mask if dim is not None else torch.zeros(4, 6))
    output.square().sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
    twin = copy_model(model)
    assert torch.equal(twin(inputs), output)
    make_permanent(model)
    assert torch.equal(model(inputs), output)


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
def test_a_weight_normed_model_trains_at_five_percent(norm: Callable[..., nn.Module]) -> None:
    _, data = problem()
    torch.manual_seed(0)
    model = nn.Sequential(norm(nn.Linear(6, 16)), nn.ReLU(), norm(nn.Linear(16, 5)))
    prune_fixed_amount(model, 0.95, verbose=False)
    assert train(model, data, epochs=3, lr=0.1, momentum=0.9, weight_decay=0.01).loss < 3
    assert all(bool(tensor.isfinite().all()) for tensor in named_tensors(model).values())
    assert evaluate(model, data).loss < 3
    for name, mask in named_masks(model).items():
        assert not named_tensors(model)[name][mask == 0].any()


# ---- parametrizations and lists


class Half(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        halved: Tensor = weight / 2
        return halved


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.ones(4, 4), torch.ones(4)])
        self.kernels = nn.ParameterList([torch.ones(4, 4)])
        self.named_weights = nn.ParameterDict({"left": torch.ones(4, 4)})

    def forward(self, inputs: Tensor) -> Tensor:
        left: Tensor = inputs @ self.kernels[0] @ self.named_weights["left"]
        output: Tensor = inputs @ self.weights[0] + self.weights[1] + left
        return output


def test_a_parametrized_weight_follows_the_rule_of_a_plain_one() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Embedding(3, 4), nn.LSTM(4, 2))
    for name in "012":
        parametrize.register_parametrization(model.get_submodule(name), "weight", Half())
    parametrize.register_parametrization(model[0], "bias", Half())
    parametrizations.spectral_norm(model[3], "weight_hh_l0")
    weight, recurrent = "0.parametrizations.weight.original", "3.parametrizations.weight_hh_l0.original"
    assert sorted(prunable(model)) == sorted([weight, "3.weight_ih_l0", recurrent])
    assert reasons(model)["2.parametrizations.weight.original"].startswith("of an embedding or a norm")
    assert reasons(model)["0.parametrizations.bias.original"] == "no weight by its name"


def test_a_parametrized_weight_is_pruned_trains_and_is_permanent() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5))
    keys = list(parametrize.register_parametrization(model[0], "weight", Half()).state_dict())
    prune_fixed_amount(model, 0.5, verbose=False)
    train(model, problem()[1], epochs=2, lr=0.1)
    assert int(weight_of(model).eq(0).sum()) == 15
    make_permanent(model)
    assert list(model[0].state_dict()) == keys
    assert int(weight_of(model).eq(0).sum()) == 15


def test_lists_of_weights_follow_the_rule_by_the_lists_name() -> None:
    model = Listed()
    assert prunable(model) == ["weights.0", "named_weights.left"]
    inputs = torch.ones(1, 4)
    prune_fixed_amount(model, 16, verbose=False)
    assert model(inputs).tolist() == [[1 + 4 * 4.0] * 4]  # weights.0 goes first of equals
    named_tensors(model)["kernels.0"].fill_(2)
    named_tensors(model)["named_weights.left"].fill_(3)
    assert model(inputs).tolist() == [[1 + 4 * 2 * 4 * 3.0] * 4]
    make_permanent(model)
    assert not model.weights[0].any()


def test_the_table_says_what_is_left_out_and_why() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2).requires_grad_(False))
    lines = dict(line.split(maxsplit=1) for line in explain(model).splitlines() if "." in line.split(" ")[0])
    assert lines["0.weight"] == "2×2      prunable"
    assert lines["0.bias"].endswith("no weight by its name")
    assert lines["1.weight"].endswith("no matrix: less than two dimensions")
    assert lines["1.running_mean"].endswith("a buffer")
    assert lines["2.weight"].endswith("frozen (requires_grad is False)")
    assert explain(model).endswith("4 of 21 values are prunable")
    assert {item.name for item in model_tensors(model) if is_prunable(item, "matrices")} == {"0.weight"}


# ---- what is no plain module, and where it was made


@pytest.mark.parametrize("nested", [False, True])
def test_a_scripted_model_is_refused_in_one_line(nested: bool) -> None:
    model: nn.Module = torch.jit.script(nn.Sequential(nn.Linear(4, 4)))
    where = r"'0' of the model" if nested else "the model"
    with pytest.raises(ValueError, match=f"^{where} is a scripted module, .* script it afterwards$"):
        prune_fixed_amount(nn.Sequential(model) if nested else model, 4, verbose=False)


def test_pruning_inside_inference_mode_leaves_a_model_that_learns() -> None:
    model, data = problem()
    with torch.inference_mode():
        prune_fixed_amount(model, 0.5, verbose=False)
        apply_masks(model, named_masks(model))
        copied = copy_model(model)
    for each in (model, copied):
        assert train(each, data, epochs=1, lr=0.1).steps > 0
        assert density(each) == 0.5


def test_a_model_made_inside_inference_mode_is_pruned_anywhere_and_does_not_learn() -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(8, 4))
        prune_fixed_amount(model, 8, verbose=False)
    assert get_prune_summary(model).pruned == 8
    assert prune_fixed_amount(model, 8, verbose=False).pruned == 16
    make_permanent(model)
    assert int((named_tensors(model)["0.weight"] == 0).sum()) == 16
    with pytest.raises(ValueError, match=r"'0\.weight' was made inside torch\.inference_mode\(\) and cannot learn"):
        train(model, (torch.randn(4, 8), torch.zeros(4, dtype=torch.int64)), epochs=1, lr=0.1)
