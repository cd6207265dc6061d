import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lotteryfl.common.pruning.parameters import digest, load_tensors, named_masks, named_tensors
from lotteryfl.common.pruning.prunable import Prunable
from lotteryfl.common.pruning.prune import (
    Scope,
    apply_masks,
    density,
    get_prune_params,
    get_prune_summary,
    make_permanent,
    prune_fixed_amount,
)
from tests.support.architectures import Residual, Tied, Tree, build


def linear(values: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(values[0]), len(values), bias=False)
    load_tensors(layer, {"weight": torch.tensor(values)})
    return layer


def listed(model: nn.Module, **options: Any) -> list[str]:
    """Return the full names of what get_prune_params finds."""
    paths = {id(module): path for path, module in reversed(list(model.named_modules()))}
    return [f"{paths[id(module)]}.{name}".lstrip(".") for module, name in get_prune_params(model, **options)[0]]


def count_pruned(model: nn.Module) -> int:
    return get_prune_summary(model).pruned


# ---- what is prunable


def test_p1_every_weight_is_listed_once_with_its_owner() -> None:
    """P1: weights inside a block are not listed again under the block."""
    model = Residual()
    names = ["stem.weight", "head.weight"]
    names[1:1] = [f"blocks.{block}.conv{conv}.weight" for block in (0, 1) for conv in (1, 2)]
    assert listed(model) == names
    parameters, count = get_prune_params(model)
    assert count == 27 + 4 * 81 + 12 == sum(getattr(module, name).numel() for module, name in parameters)
    attention = nn.MultiheadAttention(4, 2)
    assert listed(attention) == ["in_proj_weight", "out_proj.weight"]


def test_p2_weights_of_the_root_and_of_its_own_type_are_found() -> None:
    """P2: a recursive module."""
    tree = Tree(1)
    assert listed(tree) == ["weight", "left.weight", "right.weight"]
    prune_fixed_amount(tree, 0.5, verbose=False)
    assert count_pruned(tree) == 24
    assert hasattr(tree, "weight_mask")


def test_p3_a_tied_weight_counts_once_and_stays_tied() -> None:
    """P3: 'prune 10' prunes 10, under both owners."""
    model = Tied()
    assert listed(model) == ["encoder.weight"]
    assert get_prune_params(model)[1] == 16
    prune_fixed_amount(model, 10, verbose=False)
    assert model.encoder.weight_orig is model.twin.weight_orig
    assert model.encoder.weight_mask is model.twin.weight_mask
    assert int((model.twin.weight == 0).sum()) == int((model.encoder.weight == 0).sum()) == 10
    make_permanent(model)
    assert model.encoder.weight is model.twin.weight
    assert int((model.twin.weight == 0).sum()) == 10


def test_p4_names_are_the_original_ones_in_a_pruned_model_too() -> None:
    """P4: pruning again goes on with the same masks, 5 + 5 = 10."""
    for model in (nn.Linear(10, 10), nn.LSTM(3, 5), nn.MultiheadAttention(4, 2)):
        before = get_prune_params(model)
        prune_fixed_amount(model, 5, verbose=False)
        first = {name: mask.clone() for name, mask in named_masks(model).items()}
        assert get_prune_params(model) == before
        prune_fixed_amount(model, 5, verbose=False)
        assert count_pruned(model) == 10
        assert all((mask <= first[name]).all() for name, mask in named_masks(model).items())


def test_p14_norms_and_embeddings_are_not_matrices() -> None:
    """P14: their γ and tables are called weight too; the seed's rule takes them all."""
    model = nn.Sequential(
        nn.Embedding(3, 4), nn.EmbeddingBag(3, 4), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LayerNorm((2, 4)),
        nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.RMSNorm((2, 4)), nn.Conv2d(4, 1, 2),
        nn.ConvTranspose2d(1, 2, 2), nn.GRU(4, 2), nn.PReLU(),
    )  # fmt: skip
    assert listed(model) == ["2.weight", "8.weight", "9.weight", "10.weight_ih_l0", "10.weight_hh_l0"]
    everything = [name for name, _ in model.named_parameters() if "weight" in name]
    assert listed(model, prunable="every-weight") == everything
    prune_fixed_amount(model, 0.5, verbose=False, prunable="every-weight")
    assert density(model, "every-weight") == pytest.approx(0.5, abs=0.01)
    assert set(named_masks(model)) == set(everything)


def test_a_matrix_tied_to_an_embedding_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(4, 4), nn.Embedding(3, 4))
    model[2].weight = model[0].weight
    assert listed(model) == ["1.weight"]


def test_integer_parameters_are_not_weights() -> None:
    model = nn.Linear(2, 2)
    model.weight_codes = nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    assert listed(model, prunable="every-weight") == ["weight"]


def test_lazy_parameters_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'0\.weight' is not initialised: run a batch through the model first"):
        get_prune_params(nn.Sequential(nn.LazyConv2d(3, 3)))


def test_a_name_in_the_way_is_refused_before_anything_changes() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight_orig = nn.Parameter(torch.zeros(2))
    before = list(model.state_dict())
    with pytest.raises(ValueError, match=r"^cannot prune 'weight' of Linear: it has a 'weight_orig' already$"):
        prune_fixed_amount(model, 1)
    assert list(model.state_dict()) == before


# ---- how much


def test_p5_floats_are_shares_of_what_is_left_and_ints_are_counts() -> None:
    """P5: 0.2 twice is 36 %, 20 + 20 of 100 is 40 %."""
    shares, counts = nn.Linear(10, 10), nn.Linear(10, 10)
    for _ in range(2):
        prune_fixed_amount(shares, 0.2, verbose=False)
        prune_fixed_amount(counts, 20, verbose=False)
    assert count_pruned(shares) == 36
    assert count_pruned(counts) == 40
    prune_fixed_amount(shares, 1.0, verbose=False)
    assert density(shares) == 0
    prune_fixed_amount(shares, 0.5, verbose=False)
    assert density(shares) == 0


def test_p17_an_exact_count_hits_a_target_exactly() -> None:
    """P17: the last step can be trimmed to end at the target density to the weight."""
    model = nn.Linear(10, 10)
    while density(model) > 0.37:
        left = round(100 * density(model))
        prune_fixed_amount(model, min(round(0.2 * left), left - 37), verbose=False)
    assert density(model) == 0.37


@pytest.mark.parametrize(
    ("amount", "error", "message"),
    [
        ("0.2", TypeError, "amount='0.2': expected an int or a float, not str"),
        (None, TypeError, "amount=None: expected an int or a float, not NoneType"),
        (True, TypeError, "amount=True: expected an int or a float, not bool"),
        (-1, ValueError, "amount=-1: expected a float in [0, 1] or an int that is not negative"),
        (1.01, ValueError, "amount=1.01: expected a float in [0, 1] or an int that is not negative"),
        (-0.1, ValueError, "amount=-0.1: expected a float in [0, 1] or an int that is not negative"),
        (float("nan"), ValueError, "amount=nan: expected a float in [0, 1] or an int that is not negative"),
        (14, ValueError, "amount=14: only 13 weights are left to prune"),
    ],
)
@pytest.mark.parametrize("pruned", [False, True])
def test_p5_a_wrong_amount_is_refused_and_changes_nothing(
    pruned: bool, amount: Any, error: type[Exception], message: str
) -> None:
    """P5: also more than is left."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    if pruned:
        prune_fixed_amount(model, 2, verbose=False)
    else:
        message = message.replace("13", "15")
        amount = 16 if amount == 14 else amount
        message = message.replace("14", "16")
    before = list(model.state_dict()), digest(named_masks(model))
    with pytest.raises(error) as raised:
        prune_fixed_amount(model, amount)
    assert str(raised.value) == message
    assert (list(model.state_dict()), digest(named_masks(model))) == before


def test_layer_scope_refuses_when_one_layer_has_too_few_left() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"^amount=7: only 6 weights are left to prune in '1\.weight'$"):
        prune_fixed_amount(model, 7, scope="layer")
    assert not named_masks(model)


def test_unknown_options_are_refused() -> None:
    model, row, every = nn.Linear(2, 2), cast("Scope", "row"), cast("Prunable", "all")
    with pytest.raises(ValueError, match=r"^scope='row': expected 'global' or 'layer'$"):
        prune_fixed_amount(model, 1, scope=row)
    with pytest.raises(ValueError, match=r"^prunable='all': expected 'matrices', 'every-weight' or 'every-parameter'$"):
        get_prune_params(model, prunable=every)


def test_a_model_with_nothing_to_prune_says_so() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())
    assert get_prune_params(model) == ([], 0)
    assert density(model) == 1
    assert get_prune_summary(model).percent == 0
    with pytest.raises(ValueError, match=r"^nothing to prune: Sequential has no prunable weights \('matrices'\)$"):
        prune_fixed_amount(model, 0.2)


# ---- which ones


def test_p6_importance_is_that_of_the_weights_now() -> None:
    """P6: loaded [[1, 2], [3, 4]] over an older model, the product being stale, 'prune 1' removes the 1."""
    model = linear([[9.0, 8.0], [0.1, 7.0]])
    prune_fixed_amount(model, 0, verbose=False)
    state = model.state_dict()
    state["weight_orig"] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    model.load_state_dict(state)
    prune_fixed_amount(model, 1, verbose=False)
    assert model.weight.tolist() == [[0, 2], [3, 4]]


def test_p6_hooks_of_the_users_see_fresh_weights() -> None:
    """P6: also those that were there before the pruning."""
    model = linear([[1.0, 2.0], [3.0, 4.0]])
    seen: list[list[list[float]]] = []
    model.register_forward_pre_hook(lambda module, _: seen.append(module.weight.tolist()))
    prune_fixed_amount(model, 1, verbose=False)
    named_tensors(model)["weight"].mul_(2)
    model(torch.ones(1, 2))
    assert seen == [[[0, 4], [6, 8]]]


def test_p6_pruned_entries_never_compete_again() -> None:
    """P6: whatever weight_orig holds there."""
    model = linear([[1.0, 2.0], [3.0, 4.0]])
    prune_fixed_amount(model, 1, verbose=False)
    named_tensors(model)["weight"][0, 0] = 100.0
    prune_fixed_amount(model, 2, verbose=False)
    assert model.get_buffer("weight_mask").tolist() == [[0, 0], [0, 1]]


def test_p16_global_scope_follows_the_scale_of_the_layers_and_layer_scope_does_not() -> None:
    """P16: at one threshold the layer with the smaller weights loses nearly everything."""
    model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    load_tensors(model, {n: t * (0.1 if n.startswith("0") else 1) for n, t in named_tensors(model).items()})
    rows = prune_fixed_amount(model, 0.5, verbose=False).rows
    assert rows[0].percent > 85
    assert rows[1].percent < 15
    apply_masks(model, {})
    assert [row.pruned for row in prune_fixed_amount(model, 0.5, verbose=False, scope="layer").rows] == [
        200,
        200,
    ]


def test_p18_nan_counts_as_largest() -> None:
    """P18: L1 keeps NaN weights, as torch does; refusing them is up to the receiver of an update."""
    model = linear([[torch.nan, 2.0], [torch.inf, -1.0]])
    prune_fixed_amount(model, 2, verbose=False)
    assert model.get_buffer("weight_mask").tolist() == [[1, 0], [1, 0]]


# ---- what becomes of the last masks and products


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("make", [Residual, Tied, lambda: nn.LSTM(3, 5), lambda: nn.MultiheadAttention(4, 2)])
def test_masks_and_products_that_a_caller_holds_stay_as_they_were(make: Callable[[], nn.Module], scope: Scope) -> None:
    model = make()
    prune_fixed_amount(model, 0.5, verbose=False, scope=scope)
    held = named_masks(model) | model.state_dict()
    held |= {f"product {i}": getattr(*place) for i, place in enumerate(get_prune_params(model)[0])}
    before = {name: tensor.detach().clone() for name, tensor in held.items()}
    prune_fixed_amount(model, 0.5, verbose=False, scope=scope)
    assert density(model) == pytest.approx(0.25, abs=0.1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in held.items())


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_masks_and_products_that_nobody_holds_make_room_for_the_next(scope: Scope) -> None:
    """When a product is made, the old ones up to its own are gone; what lives longer would cost memory."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Conv2d(2, 3, 3), nn.Linear(5, 2))
    prune_fixed_amount(model, 0.5, verbose=False, scope=scope)
    old = [weakref.ref(getattr(layer, name)) for layer in model for name in ("weight_mask", "weight")]
    alive: list[list[bool]] = []

    class WhenMultiplied(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.ops.aten.mul.Tensor:
                alive.append([reference() is not None for reference in old])
            return function(*args, **(kwargs or {}))

    with WhenMultiplied():
        prune_fixed_amount(model, 0.5, verbose=False, scope=scope)
    assert alive == [[False] * gone + [True] * (6 - gone) for gone in (2, 4, 6)]


# ---- summary


def test_p7_sparsity_is_counted_from_masks() -> None:
    """P7: a zero-initialised layer is not pruned."""
    model = nn.Linear(4, 4)
    nn.init.zeros_(model.weight)
    assert density(model) == 1
    prune_fixed_amount(model, 4, verbose=False)
    assert density(model) == 0.75


def test_verbose_prints_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential()
    model.add_module("first", linear([[1.0, 2.0], [3.0, 4.0]]))
    model.add_module("last", last := nn.Linear(5, 4))
    load_tensors(last, {"weight": torch.tensor([2.5] * 5 + [9.0] * 15).reshape(4, 5), "bias": torch.zeros(4)})
    prune_fixed_amount(model, 7)
    assert capsys.readouterr().out.splitlines() == [
        "Pruning Summary",
        "Layers                                             Weight Name    Percent Pruned        Total Pruned",
        "-------------------------------------------------  -------------  ------------------  --------------",
        "Linear(in_features=2, out_features=2, bias=False)  weight         2 / 4 (50.00000%)                2",
        "Linear(in_features=5, out_features=4, bias=True)   weight         5 / 20 (25.00000%)               5",
        "Percent Pruned Globally: 0.29",
    ]
    prune_fixed_amount(model, 1, verbose=False)
    assert capsys.readouterr().out == ""


def test_a_summary_in_numbers() -> None:
    model = Tree(1)
    summary = prune_fixed_amount(model, 12, verbose=False)
    assert summary == get_prune_summary(model)
    assert [(row.name, row.weight_name, row.total) for row in summary.rows] == [
        ("weight", "weight", 16),
        ("left.weight", "weight", 16),
        ("right.weight", "weight", 16),
    ]
    assert [row.layer for row in summary.rows] == [str(model), str(model.left), str(model.right)]
    assert [row.pruned for row in summary.rows] == [int((m == 0).sum()) for m in named_masks(model).values()]
    assert (summary.total, summary.pruned, summary.percent, summary.density) == (48, 12, 25, 0.75)


# ---- masks from elsewhere


def test_apply_masks_replaces_all_masks_and_copies() -> None:
    model = build("mlp")[0]
    prune_fixed_amount(model, 0.5, verbose=False)
    weights = digest(named_tensors(model))
    mask = torch.ones(9, 6, dtype=torch.int64)
    mask[0] = 0
    apply_masks(model, {"0.weight": mask, "2.bias": torch.tensor([True, True, False, True])})
    assert list(named_masks(model)) == ["0.weight", "2.bias"]
    assert digest(named_tensors(model)) == weights
    mask.zero_()
    first = model.get_submodule("0")
    assert first.get_buffer("weight_mask").sum() == 48
    assert torch.equal(first(torch.ones(1, 6))[0, :1], first.get_parameter("bias")[:1])


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"9.weight": torch.ones(1)}, "mask '9.weight': the model has no parameter of this name"),
        ({"1.running_mean": torch.ones(9)}, "cannot prune '1.running_mean': it is a buffer"),
        ({"0.weight": torch.ones(6, 9)}, "mask '0.weight' has shape [6, 9], expected [9, 6]"),
        ({"0.weight": torch.full((9, 6), 0.5)}, "mask '0.weight' has values other than 0 and 1"),
        ({"0.weight": torch.full((9, 6), torch.nan)}, "mask '0.weight' has values other than 0 and 1"),
    ],
)
def test_apply_masks_refuses_what_is_no_mask_and_changes_nothing(masks: dict[str, Any], message: str) -> None:
    model = build("batch norm")[0]
    prune_fixed_amount(model, 0.5, verbose=False)
    before = digest(named_masks(model))
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole sentence is compared below
        apply_masks(model, {"3.weight": torch.ones(4, 9)} | masks)
    assert str(error.value) == message
    assert digest(named_masks(model)) == before
