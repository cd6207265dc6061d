"""FLASC's arithmetic, step by step: who holds what, what goes down, what comes up, and the server's step.

Derived again from github.com/imkevinkuo/flasc at 17c70635: data_utils.py (partition_dirichlet, the first four fifths of
the training data) and train_sparse_lora_dp.py (get_topk_mask over one vector of all that trains; the server's weights
under the mask, client SGD with momentum, change = as sent minus trained, its own mask, the sum over clients by their
number as AdamW's gradient). None of its text is here.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.tasks.partition import Partition
from tests.support.bench import Bench, TinyTask, tiny_experiment, tiny_mlp
from tests.support.papers import tensors_of
from tests.support.playing import assigned, model, play

Tensors = dict[str, Tensor]

LABELS = np.random.default_rng(3).permutation(np.repeat(np.arange(5), [80, 120, 100, 60, 140]))
TEST = np.repeat(np.arange(5), 20)


def dirichlet(clients: int, alpha: float, seed: int) -> list[list[int]]:
    """Deal the first four fifths; scipy's rvs of an integer seed are those of this generator."""
    labels = LABELS[: int(len(LABELS) * 0.8)]
    sizes = np.array([(labels == label).sum() for label in range(5)])
    shares = np.random.RandomState(seed).dirichlet([alpha] * 5, size=clients)
    counts = np.rint(shares / shares.sum(axis=0) * sizes).astype(int)
    found = [list(np.flatnonzero(labels == label)) for label in range(5)]
    held: list[list[int]] = []
    for row in counts:
        own: list[int] = []
        for label, count in enumerate(row):
            own += found[label][:count]  # type: ignore[arg-type]  # numpy's integers
            found[label] = found[label][count:]
        held.append([int(each) for each in own])
    return held


@pytest.mark.parametrize("seed", [0, 1, 550])
@pytest.mark.parametrize(("clients", "alpha"), [(6, 0.1), (40, 0.5)])
def test_the_same_seed_deals_the_same_examples(clients: int, alpha: float, seed: int) -> None:
    settings = PartitionSettings(kind="as-flasc", alpha=alpha, validation_share=0)
    partition = Partition(LABELS, TEST, settings, clients, seed)
    dealt = [partition.client(client) for client in range(clients)]
    assert [client.train.tolist() for client in dealt] == dirichlet(clients, alpha, seed)
    assert [each for client in dealt for each in client.test.tolist()] == list(range(len(TEST)))


@pytest.mark.slow  # importing scipy.stats
def test_scipys_rvs_are_those_of_numpys_generator() -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.dirichlet.rvs([0.1] * 5, size=7, random_state=11)
    assert np.array_equal(np.random.RandomState(11).dirichlet([0.1] * 5, size=7), expected)


def test_who_would_get_nothing_is_named() -> None:
    settings = PartitionSettings(kind="as-flasc", alpha=0.01)
    with pytest.raises(TaskError, match=r"^partition\.alpha = 0\.01: client \d+ of 800 gets no example: expected"):
        Partition(LABELS, TEST, settings, 800, 0)


def top(values: Tensors, density: float) -> Tensors:
    """Mask the largest magnitudes of one vector of everything."""
    flat = torch.cat([each.flatten() for each in values.values()])
    mask = torch.zeros_like(flat)
    mask[flat.abs().topk(int(flat.numel() * density)).indices] = 1
    parts = mask.split([each.numel() for each in values.values()])
    return {name: part.view_as(values[name]) for (name, part) in zip(values, parts, strict=True)}


def trained(start: Tensors, inputs: Tensor, labels: Tensor, epochs: int) -> Tensors:
    net = tiny_mlp()
    net.load_state_dict(start)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        optimizer.zero_grad()
        F.cross_entropy(net(inputs), labels).backward()
        optimizer.step()
    return {name: parameter.detach() for name, parameter in net.named_parameters()}


def test_three_rounds_are_the_codes(drive: Callable[..., Bench]) -> None:
    """Everything that trains takes part there, biases too: here that is said by `prunable`."""
    down, up, epochs = 0.3, 0.15, 2
    strategy = {"name": "flasc", "options": {"density_down": down, "density_up": up}, "prunable": "every-parameter"}
    experiment = tiny_experiment(
        strategy=strategy,
        training={"epochs": epochs, "batch_size": 100, "lr": 0.05, "momentum": 0.9},
        server={"optimizer": "adam", "lr": 1e-2, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
        aggregation={"weighting": "equal"},
        clients=3,
        clients_per_round=3,
        rounds=4,
    )
    bench = drive(experiment)
    server = tiny_mlp()
    server.load_state_dict(model(bench, 0))
    optimizer = torch.optim.AdamW(server.parameters(), lr=1e-2)
    for _ in range(3):
        shared = {name: parameter.detach().clone() for name, parameter in server.named_parameters()}
        mask = top(shared, down)
        packed = bench.run.load_masks(bench.run.shared_mask.digest)
        for name in shared:
            assert torch.equal(unpack(packed[name], shared[name].shape), mask[name].bool())
        start = {name: value * mask[name] for name, value in shared.items()}
        sent = assigned(bench, 0)
        for name, parameter in server.named_parameters():
            torch.testing.assert_close(sent[name], start[name], rtol=1e-5, atol=1e-6)
            parameter.grad = torch.zeros_like(parameter)
        for client in range(3):
            after = trained(start, *tensors_of(TinyTask(), client), epochs)
            delta = {name: start[name] - after[name] for name in start}
            kept = top(delta, up)
            for name, parameter in server.named_parameters():
                assert parameter.grad is not None
                parameter.grad += delta[name] * kept[name] / 3
        optimizer.step()
        play(bench)
        for name, parameter in server.named_parameters():
            torch.testing.assert_close(model(bench)[name], parameter.detach(), rtol=1e-4, atol=1e-6)


def test_a_client_returns_the_changes_that_the_code_would(drive: Callable[..., Bench]) -> None:
    up = 0.15
    strategy = {"name": "flasc", "options": {"density_down": 0.3, "density_up": up}, "prunable": "every-parameter"}
    training = {"epochs": 2, "batch_size": 100, "lr": 0.05, "momentum": 0.9}
    bench = drive(tiny_experiment(strategy=strategy, training=training, clients=3, clients_per_round=3))
    shared = model(bench, 0)
    mask = top(shared, 0.3)
    start = {name: value * mask[name] for name, value in shared.items()}
    total = sum(value.numel() for value in shared.values())
    for client in range(3):
        outcome = bench.outcome(bench.take(bench.register(f"of {client}", clients={client})))
        after = trained(start, *tensors_of(TinyTask(), client), 2)
        delta = {name: after[name] - start[name] for name in start}
        assert outcome.metrics.density == int(up * total) / total
        for name, kept in top(delta, up).items():
            found = unpack(outcome.masks[name], kept.shape)
            assert torch.equal(found, kept.bool())
            torch.testing.assert_close(outcome.entries[f"kept/{name}"], delta[name][found], rtol=1e-4, atol=1e-6)
