"""Hugging Face's data sets, map-style and as a stream; skipped where they are not installed."""

from typing import Any

import pytest
import torch

from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.loop import train
from lotteryfl.common.training.objectives import HuggingFace
from tests.support.objectivetasks import PROBLEMS

pytestmark = pytest.mark.extras
datasets: Any = pytest.importorskip("datasets", minversion="5.2")


def test_its_data_sets_teach_what_the_same_tensors_do() -> None:
    inputs, labels = PROBLEMS["hugging face"].data(0)
    given = datasets.Dataset.from_dict({"features": inputs.tolist(), "labels": labels.tolist()})
    losses = []
    for data in ({"features": inputs, "labels": labels}, given):
        torch.manual_seed(0)
        model = PROBLEMS["hugging face"].model()
        train(model, data, epochs=2, lr=0.1, batch_size=4, objective=HuggingFace())
        losses.append(evaluate(model, data, objective=HuggingFace()).loss)
    assert losses[0] == losses[1]
    stream = given.to_iterable_dataset()
    stream.steps_per_epoch = 3
    assert train(model, stream, epochs=1, lr=0.1, batch_size=4, objective=HuggingFace()).examples == 12
