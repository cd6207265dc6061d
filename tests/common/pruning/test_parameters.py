import copy
import hashlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lotteryfl.common.pruning.parameters import (
    copy_model,
    copy_weights,
    digest,
    load_tensors,
    named_masks,
    named_tensors,
)
from lotteryfl.common.pruning.prune import prune_fixed_amount
from tests.support.architectures import ARCHITECTURES, Recurrent, build

architectures = pytest.mark.parametrize("name", ARCHITECTURES)


def pruned(name: str, seed: int = 0) -> nn.Module:
    model, _ = build(name, seed)
    prune_fixed_amount(model, 0.4, verbose=False)
    return model


def assert_same_tensors(model: nn.Module, other: nn.Module) -> None:
    for one, two in ((named_tensors(model), named_tensors(other)), (named_masks(model), named_masks(other))):
        assert list(one) == list(two)
        assert all(torch.equal(one[name], two[name]) for name in one)


def storages(model: nn.Module) -> set[int]:
    tensors = [*named_tensors(model).values(), *named_masks(model).values()]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


# ---- names


@architectures
def test_p10_p11_names_and_order_are_the_unpruned_models_in_every_state(name: str) -> None:
    """P10, P11: one mapping of names, whose order pruning does not change."""
    model, _ = build(name)
    shared: set[int] = set()
    expected = [
        key
        for key, tensor in model.state_dict(keep_vars=True).items()
        if id(tensor) not in shared and not shared.add(id(tensor))
    ]
    assert list(named_tensors(model)) == expected
    prune_fixed_amount(model, 0.4, verbose=False)
    assert list(named_tensors(model)) == expected


def test_p10_only_the_suffix_of_a_pruned_name_goes() -> None:
    """P10: `out.weight` is not `ut.weight`, and a parameter that is itself called x_orig keeps its name."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x_orig = nn.Parameter(torch.randn(2))
            self.x_mask = nn.Buffer(torch.ones(2))
            self.gap_weight_orig = nn.Parameter(torch.randn(3, 3))
            self.out = nn.Linear(3, 2)

    model = Odd()
    names = ["x_orig", "gap_weight_orig", "x_mask", "out.weight", "out.bias"]
    assert list(named_tensors(model)) == names
    prune_fixed_amount(model, 5, verbose=False)
    assert list(named_tensors(model)) == names
    assert list(named_masks(model)) == ["gap_weight_orig", "out.weight"]
    assert "gap_weight_orig_orig" in dict(model.named_parameters())


def test_p11_models_pruned_by_torch_itself_are_read_by_name_too() -> None:
    """P11: torch moves a pruned weight behind its bias."""
    model, _ = build("mlp")
    before = {name: tensor.clone() for name, tensor in named_tensors(model).items()}
    prune.l1_unstructured(model.get_submodule("0"), "weight", 5)
    assert next(iter(model.get_submodule("0").state_dict())) == "bias"
    after = named_tensors(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_p3_a_tie_comes_once() -> None:
    """P3: under its first name, also where whole modules are shared."""
    model, _ = build("tied")
    assert list(named_tensors(model)) == ["encoder.weight", "encoder.bias"]
    layer = nn.Linear(2, 2)
    assert list(named_tensors(nn.Sequential(layer, layer))) == ["0.weight", "0.bias"]


def test_p15_persistent_buffers_come_along_and_others_do_not() -> None:
    """P15: buffers are no parameters; the statistics of batch norm travel, int64 counters too."""
    model = nn.BatchNorm1d(3)
    model.register_buffer("scratch", torch.zeros(1), persistent=False)
    assert list(named_tensors(model)) == [
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
    ]  # fmt: skip


def test_named_tensors_are_the_live_ones() -> None:
    model = pruned("mlp")
    named_tensors(model)["0.weight"].fill_(2.0)
    first = model.get_submodule("0")
    output = first(torch.ones(1, 6))
    assert torch.equal(output[0], 2 * first.get_buffer("weight_mask").sum(1) + first.get_parameter("bias"))


def test_a_lazy_parameter_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^'0\.weight' is not initialised: run a batch through the model first$"):
        named_tensors(nn.Sequential(nn.LazyLinear(3)))


# ---- load_tensors


@architectures
def test_loading_gives_the_values_and_p13_keeps_nothing_of_the_source(name: str) -> None:
    """P13: what was loaded is not the model's own memory."""
    model, other = pruned(name, seed=1), build(name, seed=2)[0]
    source = {key: tensor.clone() for key, tensor in named_tensors(other).items()}
    before = digest(source)
    load_tensors(model, source)
    assert digest(named_tensors(model)) == before
    with torch.no_grad():
        for tensor in named_tensors(model).values():
            tensor.zero_()
    assert digest(source) == before


def test_p6_the_product_is_fresh_after_loading() -> None:
    """P6: `.weight` of a pruned module is a cached product."""
    model = nn.Linear(2, 2, bias=False)
    prune_fixed_amount(model, 1, verbose=False)
    mask = model.get_buffer("weight_mask").clone()
    load_tensors(model, {"weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
    assert torch.equal(model.weight, torch.tensor([[1.0, 2.0], [3.0, 4.0]]) * mask)


@pytest.mark.parametrize("state", ["plain", "pruned"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("1.running_mean"), "tensors do not fit the model: missing '1.running_mean'"),
        (
            lambda t: t.update({"0.weight_orig": t.pop("0.weight")}),
            "tensors do not fit the model: missing '0.weight'; unexpected '0.weight_orig'",
        ),
        (
            lambda t: t.update({"0.weight": torch.zeros(6, 9)}),
            "'0.weight' has shape [6, 9], expected [9, 6]",
        ),
        (
            lambda t: t.update({"3.bias": torch.zeros(4, dtype=torch.int64)}),
            "'3.bias' has dtype torch.int64, expected torch.float32 or another floating point dtype",
        ),
        (
            lambda t: t.update({"1.num_batches_tracked": torch.tensor(0.5)}),
            "'1.num_batches_tracked' has dtype torch.float32, expected torch.int64 or another integer dtype",
        ),
    ],
)
def test_p10_what_does_not_fit_is_named_and_nothing_is_changed(
    state: str, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    """P10: never silently the biases alone."""
    model = build("batch norm")[0] if state == "plain" else pruned("batch norm")
    before = digest(named_tensors(model))
    tensors = {name: tensor + 1 for name, tensor in named_tensors(model).items()}
    change(tensors)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole sentence is compared below
        load_tensors(model, tensors)
    assert str(error.value) == message
    assert digest(named_tensors(model)) == before


def test_other_floating_dtypes_are_converted() -> None:
    model = nn.Linear(2, 2)
    load_tensors(model, {"weight": torch.eye(2, dtype=torch.float64), "bias": torch.zeros(2).bfloat16()})
    assert model.weight.dtype == torch.float32
    assert torch.equal(model.weight, torch.eye(2))


# ---- copies


@architectures
@pytest.mark.parametrize("source_pruned", [False, True])
@pytest.mark.parametrize("target_pruned", [False, True])
def test_p9_copy_weights_copies_masks_too(name: str, source_pruned: bool, target_pruned: bool) -> None:
    """P9: the target computes what the source computes, pruned or not, whatever it was before."""
    source, inputs = build(name, seed=1)
    target = build(name, seed=2)[0]
    if source_pruned:
        prune_fixed_amount(source, 0.4, verbose=False)
    if target_pruned:
        prune_fixed_amount(target, 0.2, verbose=False)
    copy_weights(source, target)
    assert_same_tensors(source, target)
    assert prune.is_pruned(target) == source_pruned
    assert not storages(source) & storages(target)
    assert torch.equal(source.eval()(inputs), target.eval()(inputs))


def test_copy_weights_refuses_another_model() -> None:
    with pytest.raises(ValueError, match=r"missing '1\.bias', .*; unexpected '2\.bias'"):
        copy_weights(build("mlp")[0], build("batch norm")[0])


@architectures
@pytest.mark.parametrize("state", ["dense", "just pruned", "after forward", "after backward", "after eval"])
def test_p8_copy_model_works_in_every_state(name: str, state: str) -> None:
    """P8: `copy.deepcopy` of a module right after pruning raises."""
    model, inputs = build(name)
    if state != "dense":
        prune_fixed_amount(model, 0.4, verbose=False)
    if state in ("after forward", "after backward"):
        output = model(inputs)
        if state == "after backward":
            output.sum().backward()
    if state == "after eval":
        with torch.no_grad():
            model.eval()(inputs)
    copied = copy_model(model)
    assert_same_tensors(model, copied)
    assert not storages(model) & storages(copied)
    assert torch.equal(model.eval()(inputs), copied.eval()(inputs))
    original = {key: tensor.clone() for key, tensor in named_tensors(model).items()}
    torch.optim.SGD(copied.parameters(), 0.1).step(lambda: copied(inputs).pow(2).sum().backward())
    assert digest(named_tensors(model)) == digest(original) != digest(named_tensors(copied))


def test_p8_torch_itself_refuses() -> None:
    """P8: the trap is still there, in the state that torch's own pruning leaves."""
    model, _ = build("mlp")
    prune.l1_unstructured(model.get_submodule("0"), "weight", 5)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    assert_same_tensors(copy_model(model), model)


def test_copy_model_moves_to_a_device() -> None:
    model = pruned("lstm")
    copied = copy_model(model, device="meta")
    assert isinstance(copied, Recurrent)
    assert {parameter.device.type for parameter in copied.parameters()} == {"meta"}
    assert {weight is not None and weight.device.type for weight in copied.rnn._flat_weights} == {"meta"}
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_copy_model_keeps_ties() -> None:
    copied = copy_model(pruned("tied"))
    assert copied.get_parameter("encoder.weight_orig") is copied.get_parameter("twin.weight_orig")


# ---- digest


def test_digest_is_over_names_dtypes_shapes_and_bytes_in_name_order() -> None:
    tensors = {"b": torch.tensor([1, 2]), "a": torch.tensor(True), "c": torch.zeros(0, 3)}
    expected = hashlib.sha256(
        b'["a", "torch.bool", []]' + b"\x01"
        b'["b", "torch.int64", [2]]' + b"\x01" + bytes(7) + b"\x02" + bytes(7) + b'["c", "torch.float32", [0, 3]]'
    ).hexdigest()
    assert digest(tensors) == digest(dict(sorted(tensors.items()))) == expected


def test_digest_sees_every_difference() -> None:
    base = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    variants = [
        {"w": base},
        {"v": base},
        {"w": base.reshape(3, 2)},
        {"w": base.view(torch.int16)},
        {"w": base.t().contiguous()},
        {"w": base.clone().index_fill_(0, torch.tensor([1]), -0.0)},
        {"w": base.clone().index_fill_(0, torch.tensor([1]), 0.0)},
        {},
    ]
    assert len({digest(variant) for variant in variants}) == len(variants)
    assert digest({"w": base.t().contiguous().t()}) == digest({"w": base})
