"""A run's model with an example of what it gets."""

from pathlib import Path

import pytest
import torch

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.tasks import load_task
from lotteryfl.server.models.built import built
from lotteryfl.server.models.ticket import global_tensors
from lotteryfl.server.rounds.setup import set_up
from tests.support.bench import tiny_experiment

CODE = """
import pytest
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, features, labels=None):
        logits = self.head(features)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}

model = Model

def client(k, experiment):
    features = torch.full((5, 6), float(k))
    part = {"features": features, "labels": torch.zeros(5, dtype=torch.long)}
    return [part, part, part]
"""


def test_a_model_that_reckons_its_own_loss_is_asked_for_its_outputs_alone(tmp_path: Path) -> None:
    path = tmp_path / "own_loss.py"
    path.write_text(CODE)
    experiment = tiny_experiment(task={"name": str(path), "objective": "hugging-face"})
    with set_up(tmp_path / "run", experiment, load_task(experiment, [str(path)])) as run:
        found = built(run, global_tensors(run), 3, [str(path)])
    assert found.args == ()
    assert list(found.kwargs) == ["features"]
    assert torch.equal(found.kwargs["features"], torch.full((2, 6), 3.0))
    assert [list(output.shape) for output in found.outputs()] == [[2, 3]]


def test_an_objective_that_goes_round_the_models_forward_is_named(tmp_path: Path) -> None:
    path = tmp_path / "round_about.py"
    path.write_text(
        CODE
        + """
import lotteryfl

class objective(lotteryfl.objectives.Classification):
    def outputs(self, model, batch):
        return model.head(batch["features"])
    def labels(self, batch):
        return batch["labels"]
"""
    )
    experiment = tiny_experiment(task={"name": str(path)})
    with (
        set_up(tmp_path / "run", experiment, load_task(experiment, [str(path)])) as run,
        pytest.raises(
            LotteryFLError, match=r"^task round_about: its objective does not call the model, but what is in"
        ),
    ):
        built(run, global_tensors(run), 0, [str(path)])
