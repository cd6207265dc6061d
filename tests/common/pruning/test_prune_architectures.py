"""Every architecture, against torch's own pruning and against plain models that hold the masked weights."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from lotteryfl.common.pruning.parameters import copy_weights, digest, load_tensors, named_masks, named_tensors
from lotteryfl.common.pruning.prune import (
    Scope,
    apply_masks,
    density,
    get_prune_params,
    get_prune_summary,
    make_permanent,
    prune_fixed_amount,
    trainable_ticket,
)
from tests.support.architectures import ARCHITECTURES, CLASSES, Recurrent, Transformer, build

architectures = pytest.mark.parametrize("name", ARCHITECTURES)
scopes = pytest.mark.parametrize("scope", ["global", "layer"])


def masks_in_order(model: nn.Module) -> list[Tensor]:
    return [getattr(module, f"{name}_mask") for module, name in get_prune_params(model)[0]]


def prune_as_torch_does(model: nn.Module, amount: float, scope: str) -> None:
    parameters, _ = get_prune_params(model)
    if scope == "global":
        prune.global_unstructured(parameters, prune.L1Unstructured, amount=amount)
    else:
        for module, name in parameters:
            prune.l1_unstructured(module, name, amount)


def plain_twin(model: nn.Module, name: str) -> nn.Module:
    """Return an unpruned model that holds the masked weights."""
    twin = build(name)[0]
    masks = named_masks(model)
    load_tensors(twin, {key: tensor * masks.get(key, 1) for key, tensor in named_tensors(model).items()})
    return twin


def sgd_step(model: nn.Module, inputs: Tensor, lr: float = 0.5) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr)
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), torch.arange(len(inputs)) % CLASSES).backward()
    optimizer.step()


# ---- the same masks as torch's


@architectures
@scopes
@pytest.mark.parametrize("amounts", [(0.2, 0.2, 0.5), (3, 4, 0.3)])
def test_p4_p5_p16_masks_are_torchs_over_several_rounds(name: str, scope: Scope, amounts: list[float]) -> None:
    """P4, P5, P16: cumulative, share of what is left, both scopes."""
    ours, _ = build(name)
    theirs = copy.deepcopy(ours)
    for seed, amount in enumerate(amounts):
        prune_fixed_amount(ours, amount, verbose=False, scope=scope)
        prune_as_torch_does(theirs, amount, scope)
        for mine, expected in zip(masks_in_order(ours), masks_in_order(theirs), strict=True):
            assert torch.equal(mine, expected)
            assert mine.dtype == expected.dtype
        other = named_tensors(build(name, seed + 10)[0])  # the next round sees other weights
        load_tensors(ours, other)
        load_tensors(theirs, other)
    assert min(mask.mean() for mask in masks_in_order(ours)) < 0.8


@settings(deadline=None, max_examples=40)
@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    amounts=st.lists(st.floats(0, 1) | st.integers(0, 8), min_size=1, max_size=4),
    scope=st.sampled_from(["global", "layer"]),
    seed=st.integers(0, 10**6),
)
def test_masks_are_torchs_for_any_shape_and_amount(
    widths: list[int], amounts: list[float], scope: Scope, seed: int
) -> None:
    torch.manual_seed(seed)
    ours = nn.Sequential(*(nn.Linear(*pair) for pair in itertools.pairwise(widths)))
    theirs = copy.deepcopy(ours)
    for amount in amounts:
        left = [int(row.total - row.pruned) for row in get_prune_summary(ours).rows]
        if scope == "global":
            left = [sum(left)]
        if isinstance(amount, int) and amount > min(left):
            before = digest(named_masks(ours))
            with pytest.raises(ValueError, match=f"^amount={amount}: only"):
                prune_fixed_amount(ours, amount, verbose=False, scope=scope)
            assert digest(named_masks(ours)) == before
            continue
        prune_fixed_amount(ours, amount, verbose=False, scope=scope)
        prune_as_torch_does(theirs, amount, scope)
        for mine, expected in zip(masks_in_order(ours), masks_in_order(theirs), strict=True):
            assert torch.equal(mine, expected)
        gone = [amount if isinstance(amount, int) else round(amount * count) for count in left]
        rows = get_prune_summary(ours).rows
        assert sum(row.total - row.pruned for row in rows) == sum(left) - sum(gone)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_equal_magnitudes_go_by_flat_index(scope: Scope) -> None:
    """Torch's choice depends on its sort; here the lowest flat index goes first, and the count is the same."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    for parameter in model.parameters():
        nn.init.constant_(parameter, -0.5)
    theirs = copy.deepcopy(model)
    prune_fixed_amount(model, 4, verbose=False, scope=scope)
    prune_as_torch_does(theirs, 4, scope)
    pruned = [mask.flatten().tolist() for mask in masks_in_order(model)]
    assert pruned == [[0, 0, 0, 0, 1, 1], [1] * 6 if scope == "global" else [0, 0, 0, 0, 1, 1]]
    assert sum(m.sum() for m in masks_in_order(model)) == sum(m.sum() for m in masks_in_order(theirs))


# ---- the mask has an effect


@architectures
@pytest.mark.parametrize("training", [False, True])
def test_p19_p20_a_pruned_model_computes_with_the_masked_weights(name: str, training: bool) -> None:
    """P19, P20: the output changes, and is that of a plain model holding the masked weights."""
    model, inputs = build(name)
    model.train(training)
    torch.manual_seed(1)
    dense = model(inputs)
    prune_fixed_amount(model, 0.6, verbose=False)
    twin = plain_twin(model, name).train(training)
    with torch.set_grad_enabled(training):  # without gradients torch may take its fast paths
        torch.manual_seed(1)
        output = model(inputs)
        torch.manual_seed(1)
        expected = twin(inputs)
    assert not torch.allclose(output, dense, atol=1e-3)
    torch.testing.assert_close(output, expected)


@architectures
def test_p6_an_optimizer_step_reaches_the_output_and_backward_works_again(name: str) -> None:
    """P6: torch's products are stale after a step, and where a parent reads a child's weight for ever."""
    model, inputs = build(name)
    prune_fixed_amount(model, 0.5, verbose=False)
    for _ in range(3):
        sgd_step(model, inputs)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(inputs), plain_twin(model, name).eval()(inputs))


@architectures
def test_gradients_of_pruned_entries_are_zero_and_others_those_of_the_plain_model(name: str) -> None:
    model, inputs = build(name)
    prune_fixed_amount(model, 0.5, verbose=False)
    twin = plain_twin(model, name)
    masks = named_masks(model)
    for each in (model.eval(), twin.eval()):
        each(inputs).pow(2).sum().backward()
    expected = {key: parameter.grad for key, parameter in twin.named_parameters() if parameter.grad is not None}
    for key, parameter in model.named_parameters():
        plain = key.removesuffix("_orig")
        torch.testing.assert_close(parameter.grad, expected[plain] * masks.get(plain, 1))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_padded_batch_takes_the_transformers_nested_path() -> None:
    """In eval mode a padding mask makes `nn.TransformerEncoder` look at its layers' weights itself."""
    model, tokens = build("transformer")
    prune_fixed_amount(model, 0.5, verbose=False)
    twin = plain_twin(model, "transformer")
    assert isinstance(model, Transformer)
    assert isinstance(twin, Transformer)
    padding = torch.zeros(7, 5, dtype=torch.bool)
    padding[:, 3:] = True
    with torch.no_grad():
        outputs = [
            each.eval().encoder(each.embedding(tokens), src_key_padding_mask=padding)[:, :3] for each in (model, twin)
        ]
    torch.testing.assert_close(*outputs)


def test_p19_the_flat_weights_of_an_rnn_are_the_masked_products() -> None:
    """P19: also after moving, training, and taking the masks away."""
    model, inputs = build("lstm")
    assert isinstance(model, Recurrent)
    prune_fixed_amount(model, 0.5, verbose=False)

    def assert_flat_weights_are_current() -> None:
        for name, weight in zip(model.rnn._flat_weights_names, model.rnn._flat_weights, strict=True):
            assert weight is getattr(model.rnn, name)
            mask = getattr(model.rnn, f"{name}_mask", None)
            if mask is not None:
                assert torch.equal(weight, getattr(model.rnn, f"{name}_orig") * mask)

    assert_flat_weights_are_current()
    sgd_step(model, inputs)
    model.double()(inputs.double())
    assert_flat_weights_are_current()
    with trainable_ticket(model):
        assert all(isinstance(weight, nn.Parameter) for weight in model.rnn._flat_weights)
        assert_flat_weights_are_current()
    assert_flat_weights_are_current()
    make_permanent(model)
    assert_flat_weights_are_current()


# ---- torch's own functions on our state


@architectures
def test_torch_recognises_removes_and_prunes_on(name: str) -> None:
    """Half of what is left, pruned by torch on top of ours, is what two steps of ours prune."""
    model, _ = build(name)
    expected = copy.deepcopy(model)
    prune_fixed_amount(model, 0.3, verbose=False)
    assert prune.is_pruned(model)
    prune_as_torch_does(model, 0.5, "global")
    prune_fixed_amount(expected, 0.3, verbose=False)
    prune_fixed_amount(expected, 0.5, verbose=False)
    assert digest(named_masks(model)) == digest(named_masks(expected))
    prune_fixed_amount(model, 1, verbose=False)
    prune_fixed_amount(expected, 1, verbose=False)
    assert digest(named_masks(model)) == digest(named_masks(expected))


@architectures
def test_no_hook_is_left_behind(name: str) -> None:
    """Neither by make_permanent nor, from the next forward on, by torch's own `prune.remove`."""
    model, inputs = build(name)
    prune_fixed_amount(model, 0.3, verbose=False)
    by_torch, _ = build(name)
    copy_weights(model, by_torch)
    make_permanent(model)
    assert not any(module._forward_pre_hooks for module in model.modules())
    for module in by_torch.modules():
        for key in [key.removesuffix("_mask") for key in module._buffers if key.endswith("_mask")]:
            prune.remove(module, key)
    torch.testing.assert_close(by_torch.eval()(inputs), model.eval()(inputs))
    assert not any(module._forward_pre_hooks for module in by_torch.modules())


@architectures
def test_state_dict_has_torchs_names(name: str) -> None:
    ours, _ = build(name)
    theirs = copy.deepcopy(ours)
    prune_fixed_amount(ours, 0.3, verbose=False)
    for entry_module, entry_name in get_prune_params(theirs)[0]:
        prune.identity(entry_module, entry_name)
    if name == "tied":
        prune.identity(theirs.twin, "weight")
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())
    assert density(ours) == 1


# ---- making permanent, and the ticket


@architectures
def test_a_permanent_ticket_is_the_plain_model(name: str) -> None:
    """Strict load_state_dict works both ways, the Parameter objects stay, and so does the output."""
    model, inputs = build(name)
    parameters = [id(parameter) for parameter in model.parameters()]
    prune_fixed_amount(model, 0.4, verbose=False)
    sgd_step(model, inputs)
    masks = {key: mask.clone() for key, mask in named_masks(model).items()}
    expected = model.eval()(inputs)
    make_permanent(model)
    assert [id(parameter) for parameter in model.parameters()] == parameters
    assert not named_masks(model)
    assert not prune.is_pruned(model)
    tensors = named_tensors(model)
    for key, mask in masks.items():
        zeros = tensors[key][mask == 0]
        assert torch.equal(zeros, torch.zeros_like(zeros))
        assert not zeros.signbit().any()
    torch.testing.assert_close(model(inputs), expected)
    plain = build(name, seed=5)[0].eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(plain(inputs), expected)
    model.load_state_dict(build(name, seed=5)[0].state_dict())


@architectures
def test_inside_the_ticket_the_model_is_plain_and_afterwards_pruned_as_before(name: str) -> None:
    model, inputs = build(name)
    plain_keys = list(model.state_dict())
    prune_fixed_amount(model, 0.4, verbose=False)
    pruned_keys = list(model.state_dict())
    twin = plain_twin(model, name)
    masks, live = {k: m.clone() for k, m in named_masks(model).items()}, named_masks(model)
    originals = {key: id(parameter) for key, parameter in model.named_parameters()}
    with trainable_ticket(model) as pruned:
        assert list(model.state_dict()) == plain_keys
        assert not any(module._forward_pre_hooks for module in model.modules())
        assert {id(parameter) for parameter in model.parameters()} == set(originals.values())
        assert [id(tensor) for tensor, _ in pruned] == [
            id(parameter) for key, parameter in model.named_parameters() if key in masks
        ]
        assert all(torch.count_nonzero(tensor * (1 - mask)) == 0 for tensor, mask in pruned)
        assert torch.equal(model.eval()(inputs), twin.eval()(inputs))
    assert list(model.state_dict()) == pruned_keys
    assert {key: id(parameter) for key, parameter in model.named_parameters()} == originals
    assert all(named_masks(model)[key] is live[key] for key in masks)
    assert digest(named_masks(model)) == digest(masks)
    torch.testing.assert_close(model(inputs), twin(inputs))


@architectures
def test_the_ticket_survives_an_exception(name: str) -> None:
    model, inputs = build(name)
    prune_fixed_amount(model, 0.4, verbose=False)
    before = digest(named_masks(model))
    with pytest.raises(KeyboardInterrupt), trainable_ticket(model):
        raise KeyboardInterrupt
    assert digest(named_masks(model)) == before
    sgd_step(model, inputs)


def test_p18_a_diverged_ticket_is_still_zero_where_it_is_pruned() -> None:
    """P18: mask × NaN is NaN."""
    model, _ = build("mlp")
    prune_fixed_amount(model, 0.5, verbose=False)
    with trainable_ticket(model) as pruned:
        for tensor, _ in pruned:
            tensor.detach().fill_(torch.nan)
    for key, mask in named_masks(model).items():
        assert torch.equal(named_tensors(model)[key].isnan(), mask == 1)
        assert torch.equal(model.get_parameter(f"{key}_orig")[mask == 0], torch.zeros(int((mask == 0).sum())))
    named_tensors(model)["0.weight"].fill_(torch.inf)
    make_permanent(model)
    assert not model.get_parameter("0.weight").isnan().any()


@architectures
def test_masks_move_between_models(name: str) -> None:
    source, inputs = build(name)
    prune_fixed_amount(source, 0.4, verbose=False)
    target = build(name)[0]
    apply_masks(target, {key: mask.bool() for key, mask in named_masks(source).items()})
    assert digest(named_masks(target)) == digest(named_masks(source))
    assert torch.equal(target.eval()(inputs), source.eval()(inputs))
    apply_masks(target, {})
    assert not prune.is_pruned(target)
    assert torch.equal(target(inputs), build(name)[0].eval()(inputs))
