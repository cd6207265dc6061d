"""What a worker's work takes, by part."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

from lotteryfl.common.memory.bounds import Bound
from lotteryfl.common.memory.need import Activations, WorkerNeed, worker_need
from lotteryfl.common.models.mlp import mlp
from lotteryfl.common.tasks.partition import Partition
from lotteryfl.common.wire.strategytensor import StrategyTensor, with_tensors
from lotteryfl.common.wire.table import TensorTable
from tests.support.bench import tiny_experiment

TABLE = TensorTable.of(mlp((256, 256), 64, 10))
BATCHES = Activations(kept=4 * 522, widest=4 * 512, evaluated=100)


def need(**changes: Any) -> WorkerNeed:
    return worker_need(TABLE, tiny_experiment(**changes))


@pytest.mark.parametrize(
    ("training", "states"),
    [
        ({"optimizer": "sgd", "momentum": 0.0}, 0),
        ({"optimizer": "sgd", "momentum": 0.9}, 1),
        ({"optimizer": "adam"}, 2),
        ({"optimizer": "adamw"}, 2),
    ],
)
def test_an_optimizer_counts_by_what_it_keeps(training: dict[str, Any], states: int) -> None:
    training = {"batch_size": 4096, **training}  # so that training is the peak
    parts = worker_need(TABLE, tiny_experiment(training=training), activations=BATCHES).host.parts
    assert parts[f"{training['optimizer']}'s state"] == states * TABLE.nbytes
    assert parts["gradients"] == parts["θ_0"] == parts["pristine copy"] == parts["model"] == TABLE.nbytes


def test_the_gradients_of_each_example_outgrow_the_rest() -> None:
    private = {"dp_sgd": True, "max_grad_norm": 1.0, "noise_multiplier": 1.0}
    parts = need(training={"batch_size": 16}, privacy=private).host.parts
    assert parts["gradients of each example"] >= 2 * 16 * TABLE.nbytes


def test_a_device_with_memory_of_its_own_has_the_model_and_the_host_what_travels() -> None:
    split = worker_need(TABLE, tiny_experiment(), own_memory=True)
    assert {"θ_0", "pristine copy", "payload"} <= split.host.parts.keys()
    assert {"model", "gradients", "masks"} <= split.device.parts.keys()
    assert not split.host.parts.keys() & split.device.parts.keys()
    there, here = Bound(1 << 40, "--max-memory"), Bound(1, "what is free on cuda:0")
    assert "has 1 byte (what is free on cuda:0): " in split.excess(there, here, "this worker has")
    assert not split.excess(there, None, "this worker has")


@pytest.mark.parametrize("own_memory", [False, True])
def test_the_assignment_beside_it_takes_a_model_more_and_what_travels(own_memory: bool) -> None:
    one = worker_need(TABLE, tiny_experiment(), own_memory=own_memory)
    two = one.with_next()
    assert two.host.nbytes + two.device.nbytes >= one.host.nbytes + one.device.nbytes + 2 * TABLE.nbytes
    beside = two.device if own_memory else two.host
    assert beside.parts["next model"] == TABLE.nbytes
    assert two.host.parts["next payload"] >= TABLE.nbytes


def test_what_goes_through_the_model_counts_by_batches() -> None:
    without, with_batches = need(), worker_need(TABLE, tiny_experiment(), activations=BATCHES)
    assert with_batches.host.nbytes > without.host.nbytes


@pytest.mark.parametrize(
    "dealt",
    [
        {"kind": "iid", "examples_per_client": 400},
        {"kind": "n-class", "classes_per_client": 3, "examples_per_class": 130},
        {"kind": "dirichlet", "examples_per_client": 40},
    ],
)
def test_who_holds_what_is_kept_in_so_many_bytes_a_draw(dealt: dict[str, Any]) -> None:
    """Not in four an example: these come to megabytes."""
    experiment = tiny_experiment(clients=2000, task={"name": "digits"}, partition=dealt)
    counted = worker_need(TABLE, experiment).host.parts["index lists"]
    labels = np.arange(600) % 4
    Partition(labels, labels, experiment.partition, 5, seed=0)  # what is imported, and made once
    tracemalloc.start()
    try:
        partition = Partition(labels, labels, experiment.partition, 2000, seed=0)
        for client in (0, 1999, 1000):
            partition.client(client)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept <= counted + 100_000  # for the pools themselves


def test_a_strategys_own_tensors_count_where_they_lie_and_where_they_travel() -> None:
    """Of a table without any nothing is another; what only comes up is in no model."""
    declared = (StrategyTensor("lasting", "shared", (1000,)), StrategyTensor("seen", "up", (10**6,), dtype=torch.bool))
    with_some = with_tensors(TABLE, declared)
    plain, more = (worker_need(table, tiny_experiment()).host.parts for table in (TABLE, with_some))
    assert "strategy's tensors" not in plain
    assert more["strategy's tensors"] == 4000 + 10**6
    for part, size in {"θ_0": 4000, "round's model": 4000, "pristine copy": 0, "model": 0, "masks": 0}.items():
        assert more[part] == plain[part] + size, part
    assert worker_need(with_some, tiny_experiment()).next_host.parts["next strategy's tensors"] == 4000 + 10**6
