import itertools
from collections.abc import Callable, Iterator
from typing import Any, Never

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from lotteryfl.common.pruning.parameters import copy_model, digest, named_masks, named_tensors
from lotteryfl.common.pruning.prune import make_permanent, prune_fixed_amount
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.loop import train
from tests.support.architectures import ARCHITECTURES, Recurrent, build
from tests.support.separable import labels_for, problem

architectures = pytest.mark.parametrize("name", ARCHITECTURES)
OPTIMIZERS = [
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    {"optimizer": "adam"},
    {"optimizer": "adam", "weight_decay": 0.1},
    {"optimizer": "adamw", "weight_decay": 0.1},
]


class Listed(Dataset[tuple[Tensor, int]]):
    """A map-style data set that gives one example at a time."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.examples = list(zip(inputs, labels.tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.examples[index]


# ---- training a ticket


@architectures
@pytest.mark.parametrize("options", OPTIMIZERS, ids=str)
def test_p12_pruned_entries_are_exactly_zero_at_every_step_and_all_others_learn(
    name: str, options: dict[str, Any]
) -> None:
    """P12: also with momentum, moments and weight decay, and in a second training after more pruning."""
    model, inputs = build(name)
    data = (inputs, labels_for(inputs))
    for _ in range(2):
        prune_fixed_amount(model, 0.3, verbose=False)
        masks = {key: mask.clone() for key, mask in named_masks(model).items()}
        before = {key: tensor.clone() for key, tensor in named_tensors(model).items()}

        def assert_zero_where_pruned(*_: object, masks: dict[str, Tensor] = masks) -> None:
            tensors = named_tensors(model)
            for key, mask in masks.items():
                assert torch.equal(tensors[key], tensors[key].where(mask == 1, 0.0))

        on_step = assert_zero_where_pruned
        result = train(model, data, epochs=3, lr=0.05, batch_size=4, on_step=on_step, **options)
        assert (result.examples, result.steps) == (7, 6)
        assert_zero_where_pruned()
        assert digest(named_masks(model)) == digest(masks)
        for key, mask in masks.items():
            assert not torch.equal(named_tensors(model)[key], before[key] * mask)
        assert prune.is_pruned(model)
        assert all(parameter.grad is None for parameter in model.parameters())
        assert evaluate(model, data) == evaluate(copy_model(model), data)


@architectures
def test_a_ticket_trains_like_torchs_pruned_model(name: str) -> None:
    """The oracle: torch's reparametrisation, whose gradient reaches the kept entries alone."""
    model, inputs = build(name)
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.MultiheadAttention):
            module.p = module.dropout = 0.0
    prune_fixed_amount(model, 0.4, verbose=False)
    oracle = copy_model(model)
    train(model, (inputs, labels_for(inputs)), epochs=3, lr=0.1, batch_size=7, momentum=0.9)
    optimizer = torch.optim.SGD(oracle.train().parameters(), 0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(oracle(inputs), labels_for(inputs)).backward()
        optimizer.step()
    make_permanent(model)
    make_permanent(oracle)
    for key, tensor in named_tensors(oracle).items():
        torch.testing.assert_close(named_tensors(model)[key], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", OPTIMIZERS[:2], ids=str)
def test_p12_every_training_starts_with_a_fresh_optimizer(options: dict[str, Any]) -> None:
    """P12: two trainings of one epoch are not one of two, but the same as with new objects in between."""
    model, data = problem()
    other = copy_model(model)
    for seed in (1, 2):
        train(model, data, epochs=1, lr=0.1, seed=seed, **options)
        other = copy_model(other)
        train(other, data, epochs=1, lr=0.1, seed=seed, **options)
    assert digest(named_tensors(model)) == digest(named_tensors(other))


def test_p19_a_pruned_rnn_learns() -> None:
    """P19: with the masks still in place at the end."""
    torch.manual_seed(0)
    inputs = torch.randn(64, 5, 3)
    labels = (inputs.sum((1, 2)) > 0).long()
    model = Recurrent(nn.LSTM)
    prune_fixed_amount(model, 0.5, verbose=False)
    train(model, (inputs, labels), epochs=30, lr=0.05, optimizer="adam")
    assert evaluate(model, (inputs, labels)).accuracy > 0.9


def test_a_cancelled_training_leaves_the_model_pruned() -> None:
    model, data = problem()
    prune_fixed_amount(model, 0.4, verbose=False)
    masks = digest(named_masks(model))
    model.eval()
    state = torch.get_rng_state()

    def cancel(epoch: int, step: int, loss: Tensor) -> None:
        if step == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(model, data, epochs=9, lr=0.1, on_step=cancel)
    assert digest(named_masks(model)) == masks
    assert prune.is_pruned(model)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)


# ---- training in general


def test_training_learns_and_reports() -> None:
    model, data = problem()
    seen: list[tuple[int, int, float]] = []
    result = train(
        model,
        data,
        epochs=30,
        lr=0.1,
        batch_size=16,
        on_step=lambda *step: seen.append((*step[:2], float(step[2]))),
    )
    assert [step[:2] for step in seen] == [(1 + index // 3, 1 + index) for index in range(90)]
    assert result.loss == pytest.approx(np.average([loss for *_, loss in seen[-3:]], weights=[16, 16, 8]))
    assert (result.examples, result.steps) == (40, 90)
    assert result.loss < 0.5
    assert evaluate(model, data).accuracy > 0.9


def test_the_result_depends_on_the_seed_alone_and_the_callers_generator_is_left_alone() -> None:
    digests = []
    for global_seed, seed in ((1, 5), (2, 5), (2, 6)):
        model, data = problem()
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        train(model, data, epochs=2, lr=0.1, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        digests.append(digest(named_tensors(model)))
    assert digests[0] == digests[1] != digests[2]


def test_dropout_and_order_differ_between_epochs() -> None:
    model, data = problem(examples=8)
    batches: list[Tensor] = []
    model[0].register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].clone()))
    masks: list[Tensor] = []
    model[2].register_forward_hook(lambda _, inputs, output: masks.append(output == 0))
    train(model, data, epochs=4, lr=1e-9, batch_size=8)
    assert all(torch.equal(batch.sort(0).values, data[0].sort(0).values) for batch in batches)
    assert not any(torch.equal(one, two) for one, two in itertools.combinations(batches, 2))
    assert not any(torch.equal(one, two) for one, two in itertools.combinations(masks, 2))


def test_epochs_are_told_as_they_end() -> None:
    model, data = problem()
    heard: list[Any] = []
    result = train(model, data, epochs=3, lr=0.1, on_step=lambda e, s, _: heard.append((e, s)), on_epoch=heard.append)
    assert heard[-1] == 3
    assert [heard[heard.index(epoch) - 1] for epoch in (1, 2, 3)] == [
        (epoch, epoch * result.steps // 3) for epoch in (1, 2, 3)
    ]


def test_a_proximal_term_is_that_of_the_loss_in_a_ticket_too() -> None:
    """Against autograd of the whole sum; what is pruned stays exactly 0."""
    model, data = problem()
    prune_fixed_amount(model, 0.5, verbose=False)
    by_hand = copy_model(model)
    assert isinstance(by_hand, nn.Sequential)
    masks = named_masks(by_hand)
    make_permanent(by_hand)
    for module in (model, by_hand):
        dropout = module[2]
        assert isinstance(dropout, nn.Dropout)
        dropout.p = 0.0
    train(model, data, epochs=3, lr=0.2, batch_size=999, proximal=0.6)
    parameters = dict(by_hand.named_parameters())
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for _ in range(3):
        away = sum(((parameters[name] - start[name]) ** 2).sum() for name in parameters)
        loss = F.cross_entropy(by_hand(data[0]), data[1]) + 0.3 * away
        for name, gradient in zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True):
            with torch.no_grad():
                parameters[name].sub_(0.2 * gradient * masks.get(name, torch.ones(())))
    for name, tensor in named_tensors(model).items():
        torch.testing.assert_close(tensor.detach(), parameters[name].detach())
        if name in masks:
            assert not tensor[masks[name] == 0].any()


@pytest.mark.parametrize("wrap", [lambda x, y: TensorDataset(x, y), Listed], ids=["TensorDataset", "one by one"])
def test_every_kind_of_data_set_gives_the_same(wrap: Callable[..., Dataset[Any]]) -> None:
    model, data = problem()
    other = copy_model(model)
    state = torch.get_rng_state()
    assert train(model, data, epochs=2, lr=0.1) == train(other, wrap(*data), epochs=2, lr=0.1)
    assert digest(named_tensors(model)) == digest(named_tensors(other))
    assert evaluate(model, data) == evaluate(other, wrap(*data))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("examples", "sizes"), [(9, [4, 5]), (8, [4, 4]), (10, [4, 4, 2])])
def test_a_last_batch_of_one_joins_the_one_before_it_under_batch_norm(examples: int, sizes: list[int]) -> None:
    torch.manual_seed(0)
    seen: list[int] = []
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    model[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    inputs = torch.randn(examples, 6)
    result = train(model, (inputs, labels_for(inputs)), epochs=1, lr=0.1, batch_size=4)
    assert seen == sizes
    assert result.steps == len(sizes)


def test_without_batch_norm_batches_are_as_asked_for() -> None:
    model, data = problem(examples=9)
    assert train(model, data, epochs=1, lr=0.1, batch_size=4).steps == 3
    norm = nn.Sequential(nn.Unflatten(1, (1, 6)), nn.BatchNorm1d(1), nn.Flatten(), nn.Linear(6, 4))
    assert train(norm, data, epochs=1, lr=0.1, batch_size=1).steps == 9


def test_modes_are_set_and_restored() -> None:
    model, data = problem()
    model[2].eval()
    model[3].train()
    found = [module.training for module in model.modules()]
    during: list[list[bool]] = []
    model[0].register_forward_pre_hook(lambda *_: during.append([module.training for module in model.modules()]))
    train(model, data, epochs=1, lr=0.1, batch_size=40)
    evaluate(model, data)
    assert during == [[True] * 5, [False] * 5]
    assert [module.training for module in model.modules()] == found

    def fail(*_: object) -> Never:
        raise ArithmeticError

    for call in (
        lambda: train(model, data, epochs=1, lr=0.1, loss=fail),
        lambda: evaluate(model, data, loss=fail),
    ):
        with pytest.raises(ArithmeticError):
            call()
        assert [module.training for module in model.modules()] == found


def test_frozen_parameters_stay() -> None:
    model, data = problem()
    prune_fixed_amount(model, 0.2, verbose=False)
    frozen = model.get_parameter("0.weight_orig").requires_grad_(False)
    before = frozen.clone() * model.get_buffer("0.weight_mask")
    train(model, data, epochs=1, lr=0.1, weight_decay=0.1)
    assert torch.equal(model.get_parameter("0.weight_orig"), before)
    assert not model.get_parameter("0.weight_orig").requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs=0: expected at least 1"),
        ({"batch_size": 0}, "batch_size=0: expected at least 1"),
        (
            {"optimizer": "lion"},
            "optimizer='lion': expected 'sgd', 'adam' or 'adamw', or a class of torch.optim by name",
        ),
        ({"data": (torch.zeros(0, 6), torch.zeros(0))}, "data: no examples"),
        ({"data": TensorDataset(torch.zeros(0, 6), torch.zeros(0))}, "data: no examples"),
        ({"data": (torch.zeros(3, 6), torch.zeros(2))}, "data: 3 inputs but 2 labels"),
        ({"model": nn.ReLU()}, "nothing to train: ReLU has no parameter that requires a gradient"),
        (
            {"model": nn.Linear(6, 4).requires_grad_(False)},
            "nothing to train: Linear has no parameter that requires a gradient",
        ),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    model, data = problem()
    arguments: dict[str, Any] = {"model": model, "data": data, "epochs": 1, "lr": 0.1} | options
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole sentence is compared below
        train(**arguments)
    assert str(error.value) == message


def test_data_without_a_length_is_refused() -> None:
    class Endless(IterableDataset[tuple[Tensor, int]]):
        def __iter__(self) -> Iterator[tuple[Tensor, int]]:
            return itertools.repeat((torch.zeros(6), 0))

    model, data = problem()[0], Endless()
    for call in (lambda: train(model, data, epochs=1, lr=0.1), lambda: evaluate(model, data)):
        with pytest.raises(TypeError, match=r"^data: Endless has no length: expected a map-style data set, or"):
            call()
