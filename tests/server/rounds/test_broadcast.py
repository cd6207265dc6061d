"""The whole model once, or each client's kept values: a worker gets what is fewer bytes, and the same bits."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotteryfl.common.experiment.settings import WireDtype
from lotteryfl.common.names import WorkerId
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.rounds.broadcast import TransferSizes
from lotteryfl.server.store.summaries import round_summaries
from tests.support.bench import Bench, tiny_experiment, tiny_mlp

Drive = Callable[..., Bench]

FOUR_EACH = tiny_experiment(clients_per_round=4)


@pytest.mark.parametrize("wire_dtype", ["float32", "bfloat16", "float16", "int8"])
def test_the_sizes_are_those_of_payloads(wire_dtype: WireDtype) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(512, 256), torch.nn.BatchNorm1d(256))
    wire = WireFormat(TensorTable.of(model), wire_dtype)
    payload = TensorStream(wire.pack(named_tensors(model), {})).size
    assert payload * 0.99 < TransferSizes.of(wire).values(1.0) < payload


@given(whole=st.integers(0, 1000), densities=st.lists(st.floats(0, 1), max_size=9))
def test_a_broadcast_pays_when_it_is_fewer_bytes(whole: int, densities: list[float]) -> None:
    sizes = TransferSizes(whole=whole, weights=90.0, rest=10)
    assert sizes.broadcast_pays(densities) == (whole < sum(10 + 90 * density for density in densities))


def base_of(bench: Bench, worker: WorkerId) -> str:
    return bench.take(worker).assignment.base_digest


def to_round_two(bench: Bench) -> str:
    """Do the first round; return the digest of its model."""
    bench.do_all(bench.register())
    bench.commit()
    return bench.run.model_digest


def test_everyone_starts_from_the_initial_model_that_it_holds(drive: Drive) -> None:
    bench = drive(FOUR_EACH, broadcasts=True)
    workers = [bench.register(name) for name in "abcd"]
    assert {base_of(bench, worker) for worker in workers} == {bench.run.initial_digest}


def test_a_worker_of_all_clients_gets_the_model_once(drive: Drive) -> None:
    bench = drive(FOUR_EACH, broadcasts=True)
    model = to_round_two(bench)
    assert model != bench.run.initial_digest
    worker = bench.register()
    bases = set()
    while work := bench.coordinator.lease(worker):
        bases.add(work.assignment.base_digest)
        bench.submit(worker, bench.do(work))
    assert bases == {model}, "also for the last client: the worker holds the model by then"
    bench.commit()
    assert [summary.broadcasts for summary in round_summaries(bench.run.database)] == [1, 1]


def test_a_worker_of_one_client_gets_its_values(drive: Drive) -> None:
    bench = drive(FOUR_EACH, broadcasts=True)
    to_round_two(bench)
    everyone = [bench.register(name) for name in "wxyz"]
    assert [base_of(bench, worker) for worker in everyone] == [""] * 4


def test_only_clients_that_a_worker_may_serve_count(drive: Drive) -> None:
    bench = drive(FOUR_EACH, broadcasts=True)
    to_round_two(bench)
    assert base_of(bench, bench.register("pinned", clients={2})) == ""
    model = bench.run.model_digest
    assert base_of(bench, bench.register("free")) == model


def test_the_choice_is_the_experiments_to_forbid(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"broadcasts": False}), broadcasts=True)
    assert base_of(bench, bench.register()) == ""


def test_a_client_that_goes_on_from_its_own_result_has_no_base(drive: Drive) -> None:
    bench = drive(tiny_experiment(strategy={"name": "standalone"}, clients_per_round=4), broadcasts=True)
    to_round_two(bench)
    assert base_of(bench, bench.register()) == ""


def test_a_reassigned_broadcast_counts_for_who_did_the_work(drive: Drive) -> None:
    bench = drive(FOUR_EACH, broadcasts=True)
    to_round_two(bench)
    assert base_of(bench, bench.register("gone"))
    for name in "abcdefg":
        bench.register(name)
    bench.now = 10
    for name in "abcdefg":
        bench.coordinator.heartbeat(bench.register(name), [])
    bench.coordinator.advance()
    for name in "abcd":
        worker = bench.register(name)
        work = bench.take(worker)
        assert work.assignment.base_digest == ""
        bench.submit(worker, bench.do(work))
    bench.commit()
    assert round_summaries(bench.run.database)[-1].broadcasts == 0


@pytest.mark.parametrize(("wire_dtype", "clients"), [("float32", 4), ("int8", 12)])  # enough for it to pay
def test_the_bits_are_the_same(drive: Drive, wire_dtype: WireDtype, clients: int) -> None:
    experiment = tiny_experiment(wire_dtype=wire_dtype, clients=clients, clients_per_round=clients)
    with_values = drive(experiment, name="values").finish()
    with_broadcasts = drive(experiment, name="broadcasts", broadcasts=True).finish()
    assert with_values.bits() == with_broadcasts.bits()
    assert [summary.broadcasts for summary in round_summaries(with_values.run.database)] == [0] * 3
    assert [summary.broadcasts for summary in round_summaries(with_broadcasts.run.database)] == [1] * 3


def test_the_tiny_model_is_what_these_tests_think() -> None:
    assert TransferSizes.of(WireFormat(TensorTable.of(tiny_mlp()), "float32")) == TransferSizes(492, 432.0, 60)
