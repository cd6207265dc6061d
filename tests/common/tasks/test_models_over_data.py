"""Which model a task without code has: an architecture, or the one that `task.model` names with where it is from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lotteryfl.client.work.labelledprobe import LabelledProbe
from lotteryfl.client.work.objectiveprobe import ObjectiveProbe
from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.tasks import Task, load_task
from tests.support.torchvisionoperators import declare

IMAGES = {"size": 32, "channels": 1, "classes": 3}
MODELS = """
from torch import nn
def make(experiment, inputs=1024, outputs=3): return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))
"""


def experiment_of(folder: Path, options: dict[str, Any], **task: Any) -> Experiment:
    table = {"name": "folders", "data_dir": str(folder), "options": options, **task}
    partition = {"kind": "iid", "examples_per_client": 0}
    return validate({"clients": 1, "clients_per_round": 1, "task": table, "partition": partition}, source="test")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "0").mkdir()
    x = np.random.default_rng(0).integers(0, 255, (30, 1, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "0" / "all.npz", x=x, y=np.arange(30) % 3)
    return tmp_path


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own_models.py"
    path.write_text(MODELS)
    return str(path)


def look(task: Task) -> None:
    """Try a batch, as a worker does before any work."""
    data = task.client_data(0)
    if task.objective is None:
        LabelledProbe(task.name, task.model(), torch.device("cpu"), 8).look(0, data, None)
    else:
        ObjectiveProbe(task.name, task.model(), task.objective).look(0, data, None)


def test_a_model_of_ones_own_takes_the_place_of_the_architecture(images: Path, own: str) -> None:
    task = load_task(experiment_of(images, IMAGES, model=f"{own}:make"), [own])
    assert isinstance(task.model(), nn.Sequential)
    look(task)
    with pytest.raises(TaskError, match="model own_models:make is not installed here: name its file with --task"):
        load_task(experiment_of(images, IMAGES, model=f"{own}:make"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "inputs=64",
            r"client 0 of task folders: .*the model does not take inputs of shape \(8, 1, 32, 32\) and torch.f",
        ),
        ("outputs=2", r"client 0 of task folders: .*label 2: expected 0 to 1, as the model has 2 outputs"),
    ],
)
def test_shapes_that_do_not_fit_are_named_by_the_probe(images: Path, own: str, options: str, message: str) -> None:
    task = load_task(experiment_of(images, IMAGES, model=f"{own}:make?{options}"), [own])
    with pytest.raises(TaskError, match=message):
        look(task)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("timm:resnet18", {"features": 2, "classes": 2}, "takes images, and task.options says a table"),
        ("transformers:vit", IMAGES, "expected task.objective = 'hugging-face' beside it"),
        ("timm:resnet18", {}, "task.options.classes = '': expected their number"),
    ],
)
def test_a_model_for_other_data_is_refused(model: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=message):
        load_task(experiment_of(tmp_path, options, model=model))


def test_tables_are_not_for_models_of_transformers(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "rows.csv").write_text("1,2,0\n2,1,1\n" * 10)
    options = {"features": 2, "classes": 2}
    task = load_task(experiment_of(tmp_path, options, model="transformers:bert", objective="hugging-face"))
    with pytest.raises(TaskError, match=r"takes images and texts, and task.options says a table"):
        task.client_data(0)


def test_a_model_of_timm_knows_what_the_options_say_of_images(images: Path) -> None:
    declare()
    pytest.importorskip("timm")
    task = load_task(experiment_of(images, IMAGES, model="timm:test_resnet"))
    assert task.model()(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
    look(task)


VIT = (
    "transformers:vit?image_size=32&patch_size=16&num_channels=1&hidden_size=16&num_hidden_layers=1&num_attention_heads=2"
    '&intermediate_size=16&num_labels={}&architectures=["ViTForImageClassification"]'
)


def test_a_model_of_transformers_gets_images_by_its_arguments(images: Path) -> None:
    declare()
    pytest.importorskip("transformers")
    objective = {"objective": "hugging-face"}
    look(load_task(experiment_of(images, IMAGES, model=VIT.format(3), **objective)))
    with pytest.raises(
        TaskError, match=r"client 0 of task folders: .*a batch of {pixel_values: float32 \(2, 1, 32, 32\)"
    ):
        look(load_task(experiment_of(images, IMAGES, model=VIT.format(2), **objective)))
