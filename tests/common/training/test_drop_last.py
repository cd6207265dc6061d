"""`drop_last`: which batches an epoch has, held against torch's DataLoader and a training written out by hand."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.training.examples import Examples
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.objective import Labelled
from lotteryfl.common.training.recipe import Recipe, TrainingSettings

CPU = torch.device("cpu")


class Stream(IterableDataset[Any]):
    """The same examples, one after the other."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return ((torch.tensor([float(at)]), 0) for at in range(self._length))


def sizes(length: int, batch_size: int, *, streamed: bool = False) -> list[int]:
    data = Stream(length) if streamed else (torch.zeros(length, 1), torch.zeros(length, dtype=torch.long))
    examples = Examples(data, CPU, Labelled())
    found = [batch.size for batch in examples.shuffled(torch.Generator().manual_seed(0), batch_size, "goes")]
    assert len(found) == examples.batch_count(batch_size, "goes")
    assert len(found) == TrainingSettings(batch_size=batch_size, drop_last=True).batches_of(length)
    return found


@given(length=st.integers(1, 40), batch_size=st.integers(1, 12), streamed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_epoch_has_the_batches_of_torchs_loader_or_the_only_one(
    length: int, batch_size: int, streamed: bool
) -> None:
    loader = DataLoader(TensorDataset(torch.zeros(length)), batch_size, drop_last=True)
    expected = [len(batch) for (batch,) in loader] or [length]
    assert sizes(length, batch_size, streamed=streamed) == expected


def test_a_training_leaves_out_the_single_example_that_its_order_has_last() -> None:
    inputs, labels = torch.randn(9, 4, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 3
    model, by_hand = nn.Linear(4, 3), nn.Linear(4, 3)
    by_hand.load_state_dict(model.state_dict())
    recipe = Recipe(TrainingSettings(batch_size=4, drop_last=True, lr=0.1, momentum=0.9), 3, seed=5)
    result = train_by_recipe(model, (inputs, labels), recipe)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9)
    shuffler = torch.Generator().manual_seed(derive_seed(5, "shuffle"))
    for _ in range(3):
        order: Tensor = torch.randperm(9, generator=shuffler)
        for chosen in (order[:4], order[4:8]):
            optimizer.zero_grad()
            nn.functional.cross_entropy(by_hand(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
    assert (result.steps, result.examples) == (6, 9)
    assert torch.equal(model.weight, by_hand.weight)


@pytest.mark.parametrize("drop_last", [False, True])
def test_what_a_batch_of_one_does_to_weights_is_gone_with_it(drop_last: bool) -> None:
    """33 examples in batches of 32, one of them far out: alone in a step it throws the weights as far."""
    inputs = torch.full((33, 1), 0.1)
    inputs[0] = 50.0  # 1.6 in the mean of 32, 50 alone
    furthest = 0.0
    for seed in range(200):
        shuffler = torch.Generator().manual_seed(derive_seed(seed, "shuffle"))
        if int(torch.randperm(33, generator=shuffler)[-1]) == 0:
            model = nn.Linear(1, 2)
            nn.init.zeros_(model.weight)
            settings_ = TrainingSettings(batch_size=32, drop_last=drop_last, lr=0.1, momentum=0.0)
            train_by_recipe(model, (inputs, torch.arange(33) % 2), Recipe(settings_, 1, seed=seed))
            furthest = max(furthest, float(model.weight.detach().abs().max()))
    assert (furthest < 0.1) == drop_last
