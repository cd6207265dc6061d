"""Aggregation against the table in the field's literature by hand, and against numpy element by element."""

import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.experiment.settings import AggregationSettings, WireDtype
from lotteryfl.common.packedmasks import BLOCK, PackedMask
from lotteryfl.common.tensors.file import save
from lotteryfl.common.tensors.partfile import PartFile
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.payload import mask_tensors
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.server.aggregation.aggregate import Combination, aggregate
from lotteryfl.server.aggregation.maskfile import MaskFile
from lotteryfl.server.aggregation.update import Update, ahead_of_each, update_norm

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def table_of(dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (4,)) -> TensorTable:
    """One weight that may be masked, a dense bias, and buffers of every kind."""
    return TensorTable(
        (
            TensorSpec("bias", dtype, (2,), "parameter", prunable=False),
            TensorSpec("flag", torch.bool, (2,), "buffer", prunable=False),
            TensorSpec("mean", torch.float32, (), "buffer", prunable=False),
            TensorSpec("steps", torch.int64, (), "buffer", prunable=False),
            TensorSpec("weight", dtype, shape, "parameter", prunable=True),
        )
    )


def tensors_of(table: TensorTable, value: float) -> dict[str, Tensor]:
    return {spec.name: torch.full(spec.shape, value).to(spec.dtype) for spec in table}


def update(
    table: TensorTable, client: int, examples: int, tensors: Mapping[str, Tensor], mask: Tensor | None = None
) -> Update:
    held = {} if mask is None else {"weight": packedmasks.pack(mask)}
    return Update(client, examples, held, WireFormat(table, "float32").pack(tensors, held))


def clients_1_2_3(examples: tuple[int, int, int] = (1, 1, 1)) -> tuple[TensorTable, list[Update]]:
    """Values 1, 2, 3 everywhere; the four weights are kept by 3, 2, 1 and 0 of the clients."""
    table = table_of()
    keeps = ([1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0])
    return table, [
        update(table, k, examples[k], tensors_of(table, k + 1), torch.tensor(keep)) for k, keep in enumerate(keeps)
    ]


def test_mean_over_those_who_keep_it_old_value_where_nobody_does() -> None:
    table, updates = clients_1_2_3()
    new = dict(aggregate(table, tensors_of(table, 10), updates))
    assert new["weight"].tolist() == [2, 1.5, 1, 10]
    assert new["bias"].tolist() == [2, 2]
    assert new["mean"].item() == 2


def test_the_first_client_is_weighted() -> None:
    table, updates = clients_1_2_3((8, 1, 1))
    new = dict(aggregate(table, tensors_of(table, 10), updates))
    assert new["weight"].tolist() == pytest.approx([1.3, 10 / 9, 1, 10])
    assert new["bias"].tolist() == pytest.approx([1.3, 1.3])


def test_zeros_may_be_counted() -> None:
    """The means of CELL; a weight that nobody keeps is 0."""
    zeros = Combination(counts_zeros=True)
    table, updates = clients_1_2_3()
    new = dict(aggregate(table, tensors_of(table, 10), updates, combination=zeros))
    assert new["weight"].tolist() == pytest.approx([2, 1, 1 / 3, 0])
    assert new["bias"].tolist() == [2, 2]
    table, updates = clients_1_2_3((8, 1, 1))
    new = dict(aggregate(table, tensors_of(table, 10), updates, combination=zeros))
    assert new["weight"].tolist() == pytest.approx([1.3, 1.0, 0.8, 0])


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_what_a_mask_has_taken_up_may_count_from_the_next_time_on(scale: float) -> None:
    table, updates = clients_1_2_3()
    before = {"weight": packedmasks.pack(torch.tensor([1, 0, 0, 1]))}
    updates[0] = replace(updates[0], before=before, scale=scale)
    updates[1] = replace(updates[1], before={})
    new = dict(aggregate(table, tensors_of(table, 3), updates))
    of_all = (3 + scale * (1 - 3) + 2 + 3) / 3
    assert new["weight"].tolist() == pytest.approx([of_all, 2, 3, 3])
    assert new["bias"].tolist() == pytest.approx([of_all] * 2)
    squares = [
        update_norm(table, tensors_of(table, 3), replace(updates[0], before=b, scale=1)) ** 2 for b in (before, None)
    ]
    assert squares == pytest.approx([4 * (1 + 2 + 1), 4 * (3 + 2 + 1)])  # of weights, biases and mean


def test_clients_may_count_alike_but_for_integers() -> None:
    table, updates = clients_1_2_3((8, 1, 9))
    new = dict(aggregate(table, tensors_of(table, 10), updates, AggregationSettings(weighting="equal")))
    assert new["weight"].tolist() == [2, 1.5, 1, 10]
    assert new["steps"].item() == 3


def test_personal_tensors_keep_their_old_values() -> None:
    table, updates = clients_1_2_3()
    old = tensors_of(table, 10)
    new = dict(aggregate(table, old, updates, combination=Combination(personal={"weight", "steps"})))
    assert new["weight"].tolist() == [10] * 4
    assert (new["steps"].item(), new["bias"].tolist()) == (10, [2, 2])
    new["weight"][0] = 5
    assert old["weight"][0] == 10, "the old model itself was handed out"


def test_a_mask_has_an_effect() -> None:
    table, updates = clients_1_2_3()
    dense = [update(table, k, 1, tensors_of(table, k + 1)) for k in range(3)]
    old = tensors_of(table, 10)
    assert dict(aggregate(table, old, updates))["weight"].tolist() == [2, 1.5, 1, 10]
    assert dict(aggregate(table, old, dense))["weight"].tolist() == [2, 2, 2, 2]


def test_a_client_without_a_mask_counts_everywhere() -> None:
    table, updates = clients_1_2_3()
    updates.append(update(table, 3, 1, tensors_of(table, 4)))
    new = dict(aggregate(table, tensors_of(table, 10), updates))
    assert new["weight"].tolist() == [2.5, pytest.approx(7 / 3), 2.5, 4]


def test_integers_and_bools_are_those_of_the_client_with_most_examples() -> None:
    table, updates = clients_1_2_3((5, 9, 9))
    new = dict(aggregate(table, tensors_of(table, 0), updates))
    assert new["steps"].item() == 2  # clients 1 and 2 tie: the lower number
    assert new["steps"].dtype == torch.int64
    assert new["flag"].tolist() == [True, True]


def test_tensors_come_in_table_order_with_dtype_and_shape() -> None:
    table = table_of(torch.bfloat16, (2, 3, 4))
    result = list(aggregate(table, tensors_of(table, 1), [update(table, 0, 1, tensors_of(table, 2))]))
    assert [(name, t.dtype, t.shape) for name, t in result] == [(s.name, s.dtype, s.shape) for s in table]


def test_tensors_come_as_they_lie_in_their_file_unless_many_bytes_came_before_their_turn() -> None:
    for numel, in_file in ((3, True), (1 << 18, False)):
        half = TensorSpec("a", torch.float16, (numel,), "parameter", prunable=False)
        table = TensorTable((half, TensorSpec("b", torch.float32, (numel + 1,), "parameter", prunable=False)))
        tensors, combination = tensors_of(table, 1), Combination(as_in_file=True)
        new = aggregate(table, tensors, [update(table, 0, 1, tensors)], combination=combination)
        found = [name for name, _ in new]
        assert found == (["b", "a"] if in_file else ["a", "b"])


def test_tensors_without_elements() -> None:
    table = table_of(shape=(0, 4))
    updates = [
        update(table, 0, 1, tensors_of(table, 1), torch.ones(0, 4)),
        update(table, 1, 1, tensors_of(table, 1)),
    ]
    assert dict(aggregate(table, tensors_of(table, 1), updates))["weight"].shape == (0, 4)


@settings(deadline=None)
@given(
    st.sampled_from(FLOATS),
    st.lists(st.integers(1, 2**40), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_clients_that_are_equal_give_exactly_their_value(dtype: torch.dtype, weights: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    table = table_of(dtype, (257,))
    tensors = {s.name: torch.from_numpy(random.normal(0, 1e3, s.shape)).to(s.dtype) for s in table}
    keep = torch.from_numpy(random.random(257) < 0.5)
    old = tensors_of(table, 10)
    updates = [update(table, k, w, tensors, keep if k % 2 else None) for k, w in enumerate(weights)]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in aggregate(table, old, updates))
    updates = [update(table, k, w, tensors, keep) for k, w in enumerate(weights)]
    new = dict(aggregate(table, old, updates))
    assert torch.equal(new["weight"], torch.where(keep, tensors["weight"], old["weight"]))


def oracle(old: np.ndarray, values: list[np.ndarray], keeps: list[np.ndarray], weights: list[int]) -> np.ndarray:
    """Weighted mean over those who keep it, from sums in extended precision."""
    total = sum(w * keep.astype(np.longdouble) for w, keep in zip(weights, keeps, strict=True))
    summed = sum(w * keep * value.astype(np.longdouble) for w, keep, value in zip(weights, keeps, values, strict=True))
    return np.where(total > 0, summed / np.where(total > 0, total, 1), old).astype(np.float64)


@settings(deadline=None)
@given(
    st.sampled_from([1, 7, 8, 9, 100, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]),
    st.sampled_from(FLOATS),
    st.lists(st.tuples(st.integers(1, 1000), st.sampled_from([0.0, 0.1, 0.6, 1.0, None])), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_against_numpy(numel: int, dtype: torch.dtype, clients: list[tuple[int, float | None]], seed: int) -> None:
    random = np.random.default_rng(seed)
    table = TensorTable((TensorSpec("weight", dtype, (numel,), "parameter", prunable=True),))

    def draw() -> Tensor:
        return torch.from_numpy(random.normal(0, 5, numel)).to(dtype)

    old, values, keeps, updates = draw(), [], [], []
    for client, (examples, density) in enumerate(clients):
        value = draw()
        keep = random.random(numel) < (1.0 if density is None else density)
        values.append(value.double().numpy())
        keeps.append(keep)
        mask = None if density is None else torch.from_numpy(keep)
        updates.append(update(table, client, examples, {"weight": value}, mask))
    new = dict(aggregate(table, {"weight": old}, updates))["weight"]
    expected = oracle(old.double().numpy(), values, keeps, [examples for examples, _ in clients])
    spacing = torch.finfo(dtype).eps * (100 if dtype is torch.float64 else 1)
    assert new.dtype == dtype
    np.testing.assert_allclose(new.double().numpy(), expected, rtol=spacing, atol=spacing)
    nobody = torch.from_numpy(~np.any(keeps, axis=0))
    assert torch.equal(new[nobody], old[nobody])


@settings(deadline=None)
@given(
    st.sampled_from(["bfloat16", "float16", "int8"]),
    st.sampled_from([1, 257, BLOCK + 1, 2 * BLOCK + 300]),
    st.lists(st.sampled_from([0.0, 0.1, 0.6, None]), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_narrowed_results_count_as_what_they_stand_for(
    wire_dtype: WireDtype, numel: int, densities: list[float | None], seed: int
) -> None:
    random = np.random.default_rng(seed)
    table = table_of(shape=(numel,))
    wire, whole = WireFormat(table, wire_dtype), WireFormat(table, "float32")
    narrow, widened = [], []
    for client, density in enumerate(densities):
        tensors = {s.name: torch.from_numpy(random.normal(0, 5, s.shape)).to(s.dtype) for s in table}
        held = {} if density is None else {"weight": packedmasks.pack(torch.from_numpy(random.random(numel) < density))}
        entries = wire.pack(tensors, held)
        narrow.append(Update(client, 1 + client, held, entries))
        widened.append(Update(client, 1 + client, held, whole.pack(wire.unpack(entries, held), held)))
    old = tensors_of(table, 10)
    expected = dict(aggregate(table, old, widened))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in aggregate(table, old, narrow))


def test_any_order_of_the_updates_gives_the_same_bits() -> None:
    random = np.random.default_rng(0)
    table = table_of(torch.float64, (1000,))
    updates = []
    for client in range(4):
        tensors = {s.name: torch.from_numpy(random.normal(0, 1, s.shape)).to(s.dtype) for s in table}
        keep = torch.from_numpy(random.random(1000) < 0.7)
        updates.append(update(table, client, 1 + client % 3, tensors, keep))
    old = tensors_of(table, 10)
    expected = dict(aggregate(table, old, updates))
    for order in permutations(updates):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in aggregate(table, old, order))


@pytest.mark.parametrize("wire_dtype", ["float32", "int8"])
def test_memory_does_not_grow_with_the_number_of_clients(wire_dtype: WireDtype) -> None:
    numel = 4 * BLOCK
    table = TensorTable((TensorSpec("weight", torch.float32, (numel,), "parameter", prunable=True),))
    held = {"weight": packedmasks.pack(torch.arange(numel) % 8)}
    entries = WireFormat(table, wire_dtype).pack({"weight": torch.ones(numel)}, held)
    updates = [Update(client, 1, held, entries) for client in range(40)]

    def peak(count: int) -> int:
        tracemalloc.start()  # numpy tells it of its arrays
        for _ in aggregate(table, {"weight": torch.zeros(numel)}, updates[:count]):
            pass
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(2)
    assert peak(2) > BLOCK * 8
    assert peak(40) < peak(2) + BLOCK


def test_files_of_many_clients_are_held_in_no_more_memory_than_is_read_ahead_of_them(tmp_path: Path) -> None:
    table = TensorTable((TensorSpec("weight", torch.float32, (BLOCK,), "parameter", prunable=False),))
    entries = WireFormat(table, "float32").pack({"weight": torch.ones(BLOCK)}, {})
    save(tmp_path / "result", entries)

    def peak(count: int) -> int:
        ahead = ahead_of_each(count)
        updates = [Update(client, 1, {}, PartFile(tmp_path / "result", ahead=ahead)) for client in range(count)]
        tracemalloc.start()  # numpy tells it of its arrays
        for _ in aggregate(table, {"weight": torch.zeros(BLOCK)}, updates):
            pass
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(2)
    assert peak(100) < peak(2) + 4 * BLOCK


def test_nothing_that_was_given_is_changed_or_shared() -> None:
    table, updates = clients_1_2_3()
    updates.append(update(table, 3, 7, tensors_of(table, 4)))
    old = tensors_of(table, 10)

    def snapshot() -> tuple[list[PackedMask], list[list[float]]]:
        held = [packed.copy() for u in updates for packed in u.masks.values()]
        given_tensors = [t for u in updates if isinstance(u.entries, dict) for t in u.entries.values()] + list(
            old.values()
        )
        return held, [tensor.reshape(-1).tolist() for tensor in given_tensors]

    masks_before, values_before = snapshot()
    for _, tensor in aggregate(table, old, updates):
        tensor.zero_()
    masks_after, values_after = snapshot()
    assert all(np.array_equal(*pair) for pair in zip(masks_before, masks_after, strict=True))
    assert values_before == values_after


def test_what_cannot_be_aggregated_is_refused_at_once() -> None:
    table, updates = clients_1_2_3()
    old = tensors_of(table, 10)
    with pytest.raises(ValueError, match="no updates"):
        aggregate(table, old, [])
    with pytest.raises(ValueError, match="client 7: 0 examples, expected at least 1"):
        aggregate(table, old, [*updates, Update(7, 0, {}, {})])
    with pytest.raises(ValueError, match="client 1: has two updates"):
        aggregate(table, old, [*updates, updates[1]])


@pytest.mark.parametrize("wire_dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(("density", "ahead"), [(0.1, 0), (0.7, 1 << 18)])
def test_results_in_their_files_give_the_same_bits(
    wire_dtype: WireDtype, density: float, ahead: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    table, wire = table_of(shape=(2 * BLOCK + 301,)), WireFormat(table_of(shape=(2 * BLOCK + 301,)), wire_dtype)
    in_memory, in_files = [], []
    for client in range(3):
        tensors = {s.name: torch.from_numpy(np.asarray(random.normal(0, 5, s.shape))).to(s.dtype) for s in table}
        keep = torch.from_numpy(random.random(2 * BLOCK + 301) < density)
        masks: dict[str, PackedMask] = {"weight": packedmasks.pack(keep)} if client else {}
        entries = wire.pack(tensors, masks)
        save(tmp_path / f"mask{client}", mask_tensors(masks))
        save(tmp_path / f"result{client}", entries)
        in_memory.append(Update(client, 1 + client, masks, entries))
        file = MaskFile(table, tmp_path / f"mask{client}", ahead)
        assert {name: bits.tolist() for name, bits in file.items()} == {n: bits.tolist() for n, bits in masks.items()}
        in_files.append(Update(client, 1 + client, file, PartFile(tmp_path / f"result{client}", ahead=ahead)))
    old = tensors_of(table, 10)
    expected = dict(aggregate(table, old, in_memory))
    found = dict(aggregate(table, old, in_files))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert {name: tensor.shape for name, tensor in found.items()} == {spec.name: spec.shape for spec in table}


def test_a_mask_file_of_another_model_is_refused(tmp_path: Path) -> None:
    table = table_of(shape=(20,))
    for name, size, message in (
        ("bias", 1, "'mask/bias': unexpected"),
        ("weight", 2, "'mask/weight': torch.uint8 of 2 elements, expected 3 bytes of bits"),
        ("weight", 3, "bits from 4 on must be zero"),
    ):
        save(tmp_path / "mask", {f"mask/{name}": torch.full((size,), 255, dtype=torch.uint8)})
        with pytest.raises(PayloadError, match=message):
            MaskFile(table, tmp_path / "mask")["weight"]
