"""What clients' values of a strategy's tensors come to, against numpy written from the definitions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.experiment.settings import AggregationSettings
from lotteryfl.common.packedmasks import BLOCK
from lotteryfl.common.tensors.file import save
from lotteryfl.common.tensors.partfile import PartFile
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.payload import mask_tensors
from lotteryfl.common.wire.strategytensor import StrategyTensor, filled, with_tensors
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.server.aggregation.aggregate import Combination, aggregate
from lotteryfl.server.aggregation.maskfile import MaskFile
from lotteryfl.server.aggregation.update import Update

SIZE = BLOCK + 21
MODEL = TensorTable((TensorSpec("w", torch.float32, (SIZE,), "parameter", prunable=True),))
TABLE = with_tensors(
    MODEL,
    (
        StrategyTensor("mean", "shared", like="prunable"),
        StrategyTensor("sum", "shared", like="prunable", combine="sum"),
        StrategyTensor("kept", "shared", like="prunable", combine="kept"),
        StrategyTensor("maskedmean", "shared", like="prunable", masked=True),
        StrategyTensor("maskedsum", "shared", like="prunable", combine="sum", masked=True),
        StrategyTensor("maskedkept", "shared", like="prunable", combine="kept", masked=True, dtype=torch.float64),
        StrategyTensor("own", "own", like="prunable"),
        StrategyTensor("votes", "up", like="prunable", dtype=torch.bool),
        StrategyTensor("number", "up", like="prunable", dtype=torch.bool, combine="sum"),
        StrategyTensor("kepvotes", "up", like="prunable", dtype=torch.bool, combine="kept", fill=1.0),
        StrategyTensor("some", "up", (3,)),
        StrategyTensor("nobodys", "up", (3,)),
    ),
)
EXAMPLES = (5, 1, 2, 9)
LIKE = [spec.name for spec in TABLE.added if spec.like]


def drawn(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = {spec.name: torch.randn(spec.shape, generator=generator, dtype=torch.float64) for spec in TABLE}
    return {name: value > 0 if TABLE[name].is_bits else value.to(TABLE[name].dtype) for name, value in values.items()}


@pytest.fixture(scope="module")
def clients() -> list[tuple[dict[str, Tensor], Tensor]]:
    """Tensors and mask of each; the last elements are kept by nobody."""
    masks = [torch.rand(SIZE, generator=torch.Generator().manual_seed(seed)) < 0.4 for seed in range(4)]
    for mask in masks:
        mask[-9:] = False
    return [(drawn(seed), mask) for seed, mask in enumerate(masks)]


@pytest.fixture(scope="module")
def updates(clients: list[tuple[dict[str, Tensor], Tensor]], tmp_path_factory: pytest.TempPathFactory) -> list[Update]:
    """In files, as in a round; client 2 alone has sent `some`."""
    folder: Path = tmp_path_factory.mktemp("updates")
    found = []
    for client, (tensors, mask) in enumerate(clients):
        held = {"w": packedmasks.pack(mask)}
        sends = ("votes", "number", "kepvotes", *(["some"] if client == 2 else []))
        save(folder / f"{client}", WireFormat(TABLE, "float32", sends=sends).pack(tensors, held))
        save(folder / f"m{client}", mask_tensors(held))
        masks = MaskFile(TABLE, folder / f"m{client}")
        found.append(Update(client, EXAMPLES[client], masks, PartFile(folder / f"{client}"), 0.25 if client else 1.0))
    return found


def expected(name: str, clients: Sequence[tuple[dict[str, Tensor], Tensor]], rule: str, old: float) -> npt.NDArray[Any]:
    """What is put together of one, in float64."""
    spec = TABLE[name]
    values = np.stack([tensors[name].double().numpy() for tensors, _ in clients])
    masks = np.stack([mask.numpy() for _, mask in clients])
    if spec.masked:
        values = np.where(masks, values, 0)
    counts = masks if spec.combine == "kept" else np.ones_like(masks)
    if spec.combine == "sum":
        return np.asarray(values.sum(axis=0))
    if rule == "median" and not spec.is_bits:
        found = np.nanmedian(np.where(counts, values, np.nan), axis=0)
    else:
        weights = counts * (1.0 if spec.is_bits else np.array(EXAMPLES)[:, None])
        found = (values * weights).sum(axis=0) / weights.sum(axis=0)
    return np.where(counts.any(axis=0), found, old)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:All-NaN:RuntimeWarning")
@pytest.mark.parametrize(("rule", "counts_zeros"), [("mean", False), ("mean", True), ("median", False)])
def test_every_kind_comes_to_what_its_definition_says(
    clients: list[tuple[dict[str, Tensor], Tensor]],
    updates: list[Update],
    rule: Literal["mean", "median"],
    counts_zeros: bool,
) -> None:
    """Whatever becomes of the model's own pruned weights, and however far its clients have moved."""
    old = drawn(99) | filled(spec for spec in TABLE.added)
    settings = AggregationSettings(rule=rule)
    with np.errstate(invalid="ignore"):
        new = dict(aggregate(TABLE, old, updates, settings, Combination(counts_zeros=counts_zeros)))
        for name in LIKE:
            if TABLE[name].role == "own":
                continue
            wanted = expected(name, clients, rule, TABLE[name].fill)
            assert new[name].dtype == (torch.float32 if TABLE[name].is_bits else TABLE[name].dtype)
            np.testing.assert_allclose(new[name].double().numpy(), wanted, rtol=1e-6, atol=1e-6, err_msg=name)
    assert torch.equal(new["own:w"], old["own:w"])
    assert torch.equal(new["some"], clients[2][0]["some"]), "of the one who sent it"
    assert "nobodys" not in new


def test_the_order_of_results_is_nothing_to_the_bits(updates: list[Update]) -> None:
    old = drawn(99)
    ahead, back = (dict(aggregate(TABLE, old, each)) for each in (updates, updates[::-1]))
    assert all(torch.equal(ahead[name], back[name]) for name in ahead)


def test_the_same_values_from_all_are_that_value(clients: list[tuple[dict[str, Tensor], Tensor]]) -> None:
    tensors, mask = clients[0]
    held = {"w": packedmasks.pack(mask)}
    entries = WireFormat(TABLE, "float32", sends=("votes",)).pack(tensors, held)
    new = dict(aggregate(TABLE, drawn(99), [Update(k, 3 + k, held, entries) for k in range(3)]))
    assert torch.equal(new["mean:w"], tensors["mean:w"])
    assert torch.equal(new["votes:w"], tensors["votes:w"].float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_sum_beyond_its_dtype_is_the_most_that_this_holds(dtype: torch.dtype) -> None:
    """A model with a value that is not finite would go out to nobody."""
    table = with_tensors(MODEL, (StrategyTensor("s", "shared", (2,), dtype=dtype, combine="sum"),))
    most = torch.finfo(dtype).max
    tensors = {"w": torch.zeros(SIZE), "s": torch.tensor([most, -most], dtype=dtype)}
    updates = [Update(k, 1, {}, WireFormat(table, "float32").pack(tensors, {})) for k in range(3)]
    assert torch.equal(dict(aggregate(table, tensors, updates))["s"], tensors["s"])
