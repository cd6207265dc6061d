"""Median and trimmed mean against numpy element by element, and what they are for: clients that send poison."""

import tracemalloc
from collections.abc import Callable
from itertools import permutations
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.experiment.settings import AggregationSettings, WireDtype
from lotteryfl.common.packedmasks import BLOCK
from lotteryfl.common.tasks import load_task
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.aggregation.aggregate import aggregate
from lotteryfl.server.aggregation.update import Update
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.rounds.work import Step
from tests.support.bench import Bench, tiny_experiment

MEDIAN = AggregationSettings(rule="median")
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def trimmed(trim: float) -> AggregationSettings:
    return AggregationSettings(rule="trimmed_mean", trim=trim)


def table_of(numel: int, dtype: torch.dtype = torch.float32) -> TensorTable:
    return TensorTable((TensorSpec("weight", dtype, (numel,), "parameter", prunable=True),))


def update(client: int, values: Tensor, keep: Tensor | None, wire_dtype: WireDtype = "float32") -> Update:
    held = {} if keep is None else {"weight": packedmasks.pack(keep)}
    wire = WireFormat(table_of(values.numel(), values.dtype), wire_dtype)
    return Update(client, 1 + client, held, wire.pack({"weight": values}, held))


def columns(rule: AggregationSettings, *values: list[float | None]) -> list[float]:
    """Aggregate clients' values, None where a mask prunes; the old value is 10 everywhere."""
    updates = [
        update(
            client,
            torch.tensor([0.0 if value is None else value for value in row]),
            torch.tensor([value is not None for value in row]),
        )
        for client, row in enumerate(values)
    ]
    numel = len(values[0])
    (new,) = [tensor for _, tensor in aggregate(table_of(numel), {"weight": torch.full((numel,), 10.0)}, updates, rule)]
    return [float(value) for value in new]


def test_the_median_is_over_those_who_keep_it() -> None:
    """By five, four, three, two, one and none of the clients; of an even number, the mean of the middle two."""
    rows: list[list[float | None]] = [
        [5, 4, 9, 8, 7, None],
        [1, 1, -9, 2, None, None],
        [3, 2, 1, None, None, None],
        [2, 90, None, None, None, None],
        [-80, None, None, None, None, None],
    ]
    assert columns(MEDIAN, *rows) == [2, 3, 1, 5, 7, 10]


def test_the_trimmed_mean_leaves_out_a_share_of_those_who_keep_it() -> None:
    """A fifth of five is one at each end; of four, and of fewer, it is none."""
    rows: list[list[float | None]] = [
        [5, 4, 9, 8, 7, None],
        [1, 1, -9, 2, None, None],
        [3, 2, 3, None, None, None],
        [2, 93, None, None, None, None],
        [-80, None, None, None, None, None],
    ]
    assert columns(trimmed(0.2), *rows) == [2, 25, 1, 5, 7, 10]
    assert columns(trimmed(0.0), *rows) == [pytest.approx(-13.8), 25, 1, 5, 7, 10]


def test_a_share_is_cut_as_it_is_written() -> None:
    """0.29 · 100 is 28.999… in binary."""
    values: list[float | None] = [*map(float, range(71)), *[1e6] * 29]
    assert columns(trimmed(0.29), *([value] for value in values)) == [np.mean(range(29, 71))]


def by_hand(values: np.ndarray, rule: AggregationSettings) -> float:
    """The definitions, of one element's values."""
    if rule.rule == "median":
        return float(np.median(values))
    cut = floor(round(rule.trim * len(values), 9))
    return float(np.sort(values)[cut : len(values) - cut].mean())


@settings(deadline=None)
@given(
    st.sampled_from([1, 7, 8, 100, BLOCK - 1, BLOCK + 9]),
    st.sampled_from(FLOATS),
    st.sampled_from([MEDIAN, trimmed(0.1), trimmed(0.25), trimmed(0.49)]),
    st.lists(st.sampled_from([0.0, 0.3, 0.8, None]), min_size=1, max_size=9),
    st.integers(0, 2**32 - 1),
)
def test_against_numpy(
    numel: int, dtype: torch.dtype, rule: AggregationSettings, densities: list[float | None], seed: int
) -> None:
    random = np.random.default_rng(seed)

    def draw() -> Tensor:
        return torch.from_numpy(random.normal(0, 5, numel)).to(dtype)

    old, sent, updates = draw(), [], []
    for client, density in enumerate(densities):
        values, keep = draw(), random.random(numel) < (1.0 if density is None else density)
        updates.append(update(client, values, None if density is None else torch.from_numpy(keep)))
        sent.append(np.where(keep, values.double().numpy(), np.nan))
    new = dict(aggregate(table_of(numel, dtype), {"weight": old}, updates, rule))["weight"]
    looked_at = random.permutation(numel)[:200]
    for element in looked_at:
        column = np.array([row[element] for row in sent])
        kept = column[~np.isnan(column)]
        expected = by_hand(kept, rule) if len(kept) else float(old[element])
        spacing = torch.finfo(dtype).eps * (100 if dtype is torch.float64 else 1)
        assert float(new[element]) == pytest.approx(expected, rel=spacing, abs=spacing)
    nobody = torch.from_numpy(np.all(np.isnan(sent), axis=0))
    assert torch.equal(new[nobody], old[nobody])


@pytest.mark.parametrize("rule", [MEDIAN, trimmed(0.2)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_clients_that_are_equal_give_exactly_their_value(dtype: torch.dtype, rule: AggregationSettings) -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(0, 1e3, 999)).to(dtype)
    for count in range(1, 8):
        updates = [update(client, values, None) for client in range(count)]
        ((_, new),) = aggregate(table_of(999, dtype), {"weight": torch.zeros(999, dtype=dtype)}, updates, rule)
        assert torch.equal(new, values)


@pytest.mark.parametrize("rule", [MEDIAN, trimmed(0.3)])
def test_any_order_of_the_updates_and_any_size_of_the_blocks_give_the_same_bits(
    rule: AggregationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    updates = [
        update(client, torch.from_numpy(random.normal(0, 1, 1003)), torch.from_numpy(random.random(1003) < 0.7))
        for client in range(4)
    ]

    def bits() -> list[bytes]:
        old = {"weight": torch.zeros(1003, dtype=torch.float64)}
        return [
            tensor.numpy().tobytes()
            for order in permutations(updates)
            for _, tensor in aggregate(table_of(1003, torch.float64), old, order, rule)
        ]

    whole = bits()
    assert len(set(whole)) == 1
    monkeypatch.setattr("lotteryfl.server.aggregation.robust._MOST_CELLS", 4 * 64)
    assert bits() == whole


@pytest.mark.parametrize("rule", [MEDIAN, trimmed(0.2)])
def test_memory_does_not_grow_with_the_number_of_clients(
    rule: AggregationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lotteryfl.server.aggregation.robust._MOST_CELLS", 1 << 18)
    numel = BLOCK
    held = {"weight": packedmasks.pack(torch.arange(numel) % 8)}
    entries = WireFormat(table_of(numel), "float32").pack({"weight": torch.ones(numel)}, held)
    updates = [Update(client, 1, held, entries) for client in range(64)]

    def peak(count: int) -> int:
        tracemalloc.start()  # numpy tells it of its arrays
        for _ in aggregate(table_of(numel), {"weight": torch.zeros(numel)}, updates[:count], rule):
            pass
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(2)
    assert peak(64) < 2 * peak(4)


# ---- an update that was clipped


@pytest.mark.parametrize("rule", [AggregationSettings(), MEDIAN, trimmed(0.2)])
def test_a_clipped_update_counts_as_far_as_it_may(rule: AggregationSettings) -> None:
    """Masked and dense, one client: half of the way from the old value to its own."""
    table = table_of(4)
    for keep in (None, torch.tensor([1, 0, 1, 0])):
        whole = update(0, torch.tensor([2.0, 4.0, -2.0, 8.0]), keep)
        half = Update(0, 1, whole.masks, whole.entries, scale=0.5)
        ((_, new),) = aggregate(table, {"weight": torch.full((4,), 4.0)}, [half], rule)
        assert new.tolist() == ([3, 4, 1, 6] if keep is None else [3, 4, 1, 4])


# ---- poison


def accuracy_among_poisoners(bench: Bench) -> float:
    """Two clients in ten send their weights turned round and ten times as large; return the shared model's accuracy."""
    worker = bench.register()
    while (step := bench.coordinator.advance()) is not Step.ENDED:
        if step is Step.COMMIT:
            bench.commit()
            continue
        work = bench.take(worker)
        answer = bench.do(work)
        if work.assignment.client % 5 == 0:
            answer.entries |= {key: t * -10 for key, t in answer.entries.items() if t.is_floating_point()}
        assert bench.submit(worker, answer).verdict == pb.SubmitReply.ACCEPTED
    return summarise(bench.run)["accuracy"]["downloaded_last"]


@pytest.mark.parametrize("strategy", [pytest.param("fedavg", marks=pytest.mark.slow), "lotteryfl"])
def test_a_fifth_of_the_clients_cannot_spoil_the_model(drive: Callable[..., Bench], strategy: str) -> None:
    """Finite weights of the right shapes pass every check: only the rule stands between them and the model."""
    accuracy = {}
    for rule in ("mean", "median", "trimmed_mean"):
        experiment = tiny_experiment(
            rounds=3,
            clients=10,
            clients_per_round=10,
            task={"name": "digits", "model": "mlp"},
            partition={"kind": "iid", "examples_per_client": 60},
            training={"epochs": 5, "batch_size": 8, "lr": 0.1},
            strategy={"name": strategy, "rewind": "none", "prune_rate": 0.2, "target_density": 0.8},
            aggregation={"rule": rule, "trim": 0.2},
        )
        bench = drive(experiment, load_task(experiment), rule)
        accuracy[rule] = accuracy_among_poisoners(bench)
    assert accuracy["mean"] < 0.3
    assert accuracy["median"] > 0.8
    assert accuracy["trimmed_mean"] > 0.8
