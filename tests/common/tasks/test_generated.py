from typing import Any

import numpy as np
import pytest
import torch

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models import create_model
from lotteryfl.common.pruning.prune import prune_fixed_amount
from lotteryfl.common.tasks import BUILT_IN
from lotteryfl.common.tasks.datasets import languages
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.loop import train


@pytest.mark.parametrize("name", ["tabular", "languages"])
def test_they_are_the_same_for_every_seed_and_whole(name: str) -> None:
    (one, test), (other, _) = BUILT_IN[name](Experiment(seed=1)), BUILT_IN[name](Experiment(seed=2))
    assert torch.equal(one.stored, other.stored)
    assert len(one.labels) == 20_000
    assert one.labels.dtype == test.labels.dtype == torch.int64
    counts = one.labels.bincount().double()
    assert counts.min() / counts.max() > 0.9
    rows = {row.numpy().tobytes() for row in one.stored}
    assert not any(row.numpy().tobytes() in rows for row in test.stored)


def test_half_of_a_tables_columns_are_noise_and_a_ticket_lets_go_of_them() -> None:
    training, test = BUILT_IN["tabular"](Experiment())
    assert training.stored.shape == (20_000, 64)
    torch.testing.assert_close(training.stored.std(0), torch.ones(64), atol=0.02, rtol=0)
    torch.manual_seed(0)
    model = create_model("tabular", "mlp")
    options: dict[str, Any] = {"lr": 0.002, "batch_size": 100, "optimizer": "adam"}
    train(model, (training.stored, training.labels), epochs=2, **options)
    prune_fixed_amount(model, 0.8, verbose=False)
    train(model, (training.stored, training.labels), epochs=1, **options)
    assert evaluate(model, (test.stored, test.labels)).accuracy > 0.8
    kept = model.get_buffer("fc1.weight_mask").sum(0).sort(descending=True).values
    assert kept[:32].sum() > 1.5 * kept[32:].sum()


def log_likelihoods(texts: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        steps = np.log(languages.transitions())[:, texts[:, :-1], texts[:, 1:]]
    summed: np.ndarray = steps.sum(axis=2)
    return summed.T


def test_texts_follow_the_transitions_of_their_language() -> None:
    _, test = BUILT_IN["languages"](Experiment())
    texts, labels = test.stored.numpy(), test.labels.numpy()
    assert texts.shape == (4000, 32)
    assert (log_likelihoods(texts).argmax(1) == labels).mean() > 0.99  # the best that can be done
    for language in range(3):
        own = texts[labels == language]
        counts = np.zeros((16, 16))
        np.add.at(counts, (own[:, :-1].ravel(), own[:, 1:].ravel()), 1)
        shares = counts.sum(1, keepdims=True)
        often = shares[:, 0] > 500
        assert np.abs((counts / shares - languages.transitions()[language])[often]).max() < 0.06


def test_a_transformer_learns_languages() -> None:
    training, test = BUILT_IN["languages"](Experiment())
    torch.manual_seed(0)
    model = create_model("languages", "transformer")
    few = (training.stored[:3000], training.labels[:3000])
    train(model, few, epochs=2, lr=0.002, batch_size=32, optimizer="adam")
    assert evaluate(model, (test.stored[:1000], test.labels[:1000])).accuracy > 0.7  # chance is 0.125
