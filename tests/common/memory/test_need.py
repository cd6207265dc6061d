"""What a worker's work takes, by part."""

from typing import Any

import pytest

from lotteryfl.common.memory.bounds import Bound
from lotteryfl.common.memory.need import Activations, WorkerNeed, worker_need
from lotteryfl.common.models.mlp import mlp
from lotteryfl.common.tasks.partition import Partition
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


def test_what_goes_through_the_model_counts_by_batches() -> None:
    without, with_batches = need(), worker_need(TABLE, tiny_experiment(), activations=BATCHES)
    assert with_batches.host.nbytes > without.host.nbytes


def test_who_holds_what_is_kept_in_four_bytes_an_example() -> None:
    dealt = {"kind": "iid", "examples_per_client": 40}
    experiment = tiny_experiment(clients=100, task={"name": "digits"}, partition=dealt)
    counted = worker_need(TABLE, experiment).host.parts["index lists"]
    labels = [0, 1] * 50
    partition = Partition(labels, labels, experiment.partition, 100, seed=0)  # type: ignore[arg-type]
    held = partition._held
    assert sum(indices.nbytes for indices in held) <= counted <= 2 * sum(indices.nbytes for indices in held)
    assert all(indices.base is None for indices in held)
