"""The bound of an update's norm: against numpy, and what becomes of an update beyond it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotteryfl.common import packedmasks
from lotteryfl.common.experiment.settings import AggregationSettings, WireDtype
from lotteryfl.common.names import Digest, WorkerId
from lotteryfl.common.packedmasks import BLOCK
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.quantization import DTYPES
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.aggregation.aggregate import Combination, aggregate
from lotteryfl.server.aggregation.update import Update, share_within, update_norm
from tests.support.bench import Answer, Bench, Tied, TinyTask, simulated, tiny_experiment

Drive = Callable[..., Bench]
ACCEPTED, REFUSED = pb.SubmitReply.ACCEPTED, pb.SubmitReply.REFUSED


def norm_of(bench: Bench, worker: WorkerId, answer: Answer) -> float:
    """By whole models: what was sent minus the shared model, at the kept places of weights and all others."""
    assigned = bench.coordinator.wanted(worker, answer.result.assignment_id)
    assert not isinstance(assigned, pb.SubmitReply)
    shared = open_file(bench.path / assigned.source)
    total = 0.0
    for key, values in answer.entries.items():
        kind, _, name = key.partition("/")
        if kind in ("kept", "dense") and values.is_floating_point():
            before = shared[name].flatten().double()
            if kind == "kept":
                before = before[final_mask(bench, assigned.mask, answer, name).flatten()]
            total += float(((values.double().flatten() - before) ** 2).sum())
    norm: float = total**0.5
    return norm


def final_mask(bench: Bench, mask_before: Digest, answer: Answer, name: str) -> torch.Tensor:
    table = bench.run.table
    old = bench.run.load_masks(mask_before)
    key = f"mask/{name}"
    if key not in answer.entries:
        return packedmasks.unpack(old[name], table[name].shape)
    bits = answer.entries[key].numpy()
    packed = packedmasks.decode_subset(bits, old[name]) if name in old else bits
    return packedmasks.unpack(packed, table[name].shape)


@given(
    st.sampled_from([1, 9, BLOCK, BLOCK + 77]),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    st.sampled_from([0.0, 0.4, None]),
    st.integers(0, 2**32 - 1),
)
def test_the_norm_is_of_what_was_sent_minus_what_was_there(
    numel: int, dtype: torch.dtype, density: float | None, seed: int
) -> None:
    random = np.random.default_rng(seed)
    table = TensorTable(
        (
            TensorSpec("bias", dtype, (3,), "parameter", prunable=False),
            TensorSpec("steps", torch.int64, (), "buffer", prunable=False),
            TensorSpec("weight", dtype, (numel,), "parameter", prunable=True),
        )
    )
    old, new = ({s.name: torch.from_numpy(random.normal(0, 9, s.shape)).to(s.dtype) for s in table} for _ in range(2))
    keep = torch.from_numpy(random.random(numel) < (1.0 if density is None else density))
    held = {} if density is None else {"weight": packedmasks.pack(keep)}
    update = Update(0, 1, held, WireFormat(table, "float32").pack(new, held))
    differences = [(new[name].double() - old[name].double()) for name in ("bias", "weight")]
    differences[1] = differences[1][keep]
    expected = float(torch.cat(differences).norm())
    assert update_norm(table, old, update) == pytest.approx(expected, rel=1e-12)


@given(
    st.sampled_from(list(DTYPES)),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    st.sampled_from([1, 9, 300, BLOCK + 3]),
    st.sampled_from([0.4, None]),
    st.floats(1e-3, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_what_is_clipped_is_within_its_bound_whatever_it_has_travelled_in(
    wire_dtype: WireDtype, dtype: torch.dtype, numel: int, density: float | None, bound: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    table = TensorTable(
        (
            TensorSpec("bias", dtype, (3,), "parameter", prunable=False),
            TensorSpec("weight", dtype, (numel,), "parameter", prunable=True),
        )
    )
    old = {spec.name: torch.from_numpy(random.normal(0, 1, spec.shape)).to(dtype) for spec in table}
    moved = {name: torch.from_numpy(random.normal(0, 0.1, values.shape)) for name, values in old.items()}
    new = {name: (values + moved[name]).to(dtype) for name, values in old.items()}
    held = {} if density is None else {"weight": packedmasks.pack(torch.from_numpy(random.random(numel) < density))}
    update = Update(0, 1, held, WireFormat(table, wire_dtype).pack(new, held))
    clipped = replace(update, scale=share_within(bound, update_norm(table, old, update)))
    assert update_norm(table, old, clipped) <= bound
    for rule in ("mean", "median"):
        settings = AggregationSettings(rule=rule)
        found = dict(aggregate(table, old, [clipped], settings, Combination(stays_wide=True)))
        assert {values.dtype for values in found.values()} == {torch.float64}
        assert float(torch.cat([found[name] - old[name].double() for name in found]).norm()) <= bound
        rounded = dict(aggregate(table, old, [clipped], settings))
        assert all(torch.equal(found[name].to(dtype), rounded[name]) for name in found)


def test_values_far_apart_have_an_infinite_norm_and_no_warning() -> None:
    table = TensorTable((TensorSpec("w", torch.float64, (2,), "parameter", prunable=True),))
    far = torch.full((2,), 1.7e308, dtype=torch.float64)
    assert update_norm(table, {"w": -far}, Update(0, 1, {}, {"dense/w": far})) == np.inf


def second_round(drive: Drive, **changes: object) -> tuple[Bench, WorkerId, Answer]:
    """The answer of a client that has a mask, prunes again and rewinds."""
    bench = drive(tiny_experiment(clients_per_round=4, **changes), TinyTask(Tied))
    bench.do_all(bench.register())
    bench.commit()
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    return bench, worker, answer


def with_bound(bench: Bench, bound: float, **more: object) -> None:
    checks = bench.run.experiment.checks.model_copy(update={"max_update_norm": bound, **more})
    bench.run.experiment = bench.run.experiment.model_copy(update={"checks": checks})


@pytest.mark.parametrize("wire_dtype", ["float32", "bfloat16"])
def test_an_update_beyond_the_bound_is_refused(drive: Drive, wire_dtype: WireDtype) -> None:
    bench, worker, answer = second_round(drive, wire_dtype=wire_dtype)
    norm = norm_of(bench, worker, answer)
    with_bound(bench, norm * (1 - 1e-9))
    reply = bench.submit(worker, answer)
    assert reply.verdict == REFUSED
    bound = f"{norm * (1 - 1e-9):g}"
    expected = f"its update has a norm of {norm:.6g}, expected at most checks.max_update_norm = {bound}"
    assert reply.reason == expected
    answer = bench.do(bench.take(worker))
    with_bound(bench, norm * (1 + 1e-9))
    assert bench.submit(worker, answer).verdict == ACCEPTED


def test_a_clipped_update_is_kept_as_it_came_and_aggregated_at_the_bound(drive: Drive) -> None:
    bench, worker, answer = second_round(drive)
    norm = norm_of(bench, worker, answer)
    with_bound(bench, norm / 4, on_large_update="clip")
    assert bench.submit(worker, answer).verdict == ACCEPTED
    (row,) = bench.run.database.results(2)
    assert row.scale == pytest.approx(0.25)
    entries = open_file(bench.path / row.file)
    assert all(torch.equal(entries[name], tensor) for name, tensor in answer.entries.items())
    old = open_file(bench.path / "models/round-0001.safetensors")
    clipped = Update(row.client, 1, bench.run.load_masks(row.mask), entries, row.scale)
    new = dict(aggregate(bench.run.table, old, [clipped]))
    moved = [(new[name] - old[name]).double().flatten() for name in new if new[name].is_floating_point()]
    assert float(torch.cat(moved).norm()) == pytest.approx(norm / 4, rel=1e-5)
    with_bound(bench, 1e9)
    bench.do_all(worker)
    bench.commit()
    scales = [row.scale for row in bench.run.database.results(2)]
    assert sorted(scales) == [row.scale, 1, 1, 1]
    model = bench.path / "models/round-0002.safetensors"
    rows = bench.run.database.results(2)
    updates = [
        Update(r.client, r.examples, bench.run.load_masks(r.mask), open_file(bench.path / r.file), r.scale)
        for r in rows
    ]
    expected = dict(aggregate(bench.run.table, old, updates))
    assert all(torch.equal(open_file(model)[name], expected[name]) for name in expected)


def test_a_layer_of_a_clients_own_has_no_bound(drive: Drive) -> None:
    """Honest clients' move away from θ_0 for the whole run."""
    bench, worker, answer = second_round(drive, strategy={"name": "fedper"})
    own = bench.coordinator.strategy.personal(bench.run.table)
    shared = {key: values for key, values in answer.entries.items() if key.partition("/")[2] not in own}
    norm = norm_of(bench, worker, replace(answer, entries=shared))
    assert norm_of(bench, worker, answer) > norm * 1.01
    with_bound(bench, norm * (1 - 1e-9))
    assert bench.submit(worker, answer).verdict == REFUSED
    answer = bench.do(bench.take(worker))
    with_bound(bench, norm * (1 + 1e-9))
    assert bench.submit(worker, answer).verdict == ACCEPTED


@pytest.mark.parametrize("changes", [{"strategy": {"name": "standalone"}}, {"rounds": 1}])
def test_what_is_not_aggregated_has_no_bound(drive: Drive, changes: dict[str, object]) -> None:
    """Of a strategy that shares nothing, and in the final round."""
    bench, worker, answer = second_round(drive, **changes)
    with_bound(bench, 1e-9)
    assert bench.submit(worker, answer).verdict == ACCEPTED


def test_clipped_runs_give_the_same_bits_by_hand_and_in_one_process(drive: Drive, tmp_path: Path) -> None:
    experiment = tiny_experiment(
        checks={"max_update_norm": 0.1, "on_large_update": "clip"}, aggregation={"rule": "trimmed_mean", "trim": 0.34}
    )
    bench = drive(experiment)
    bench.finish()
    scales = [row.scale for round_ in (1, 2) for row in bench.run.database.results(round_)]
    assert any(scale < 1 for scale in scales)
    with simulated(tmp_path / "simulated", experiment) as run:
        assert (run.database.get("model_sha256"), run.tickets_sha256()) == bench.bits()[:2]
