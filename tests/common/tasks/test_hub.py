"""Data sets of Hugging Face's library, from folders of this machine."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lotteryfl
from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.tasks import load_task
from tests.support.torchvisionoperators import declare

IID = {"kind": "iid", "examples_per_client": 0}


def experiment_of(folder: Path, options: dict[str, Any], name: str = "hf:birds", **task: Any) -> Experiment:
    table = {"name": name, "data_dir": str(folder), "options": options, **task}
    return validate({"clients": 2, "clients_per_round": 2, "task": table, "partition": IID}, source="test")


def parts_of(experiment: Experiment, client: int) -> list[tuple[np.ndarray, np.ndarray]]:
    data = load_task(experiment, (experiment.task.name,)).client_data(client)
    parts: list[Any] = [data.train, data.validation, data.test]
    return [tuple(tensor.numpy() for tensor in part.tensors) for part in parts]


def test_it_runs_only_where_its_name_was_allowed(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"task 'hf:birds' is not allowed here: name it with --task"):
        load_task(experiment_of(tmp_path, {}), ["hf:other"])


@pytest.mark.extras
def test_columns_of_files_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", minversion="5.2")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"wing": row, "tail": row / 2, "species": "owl" if row % 2 else "tit"} for row in range(40)]
    folder = tmp_path / "birds"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"features": 2, "classes": "tit,owl", "input": "wing,tail", "label": "species"}
    seen = []
    for client in range(2):
        train, validation, test = parts_of(experiment_of(folder, options), client)
        assert len(test[1]) == 8  # a fifth, where there is no split of this name
        for inputs, labels in (train, validation, test):
            np.testing.assert_array_equal(labels, inputs[:, 0] % 2)
            np.testing.assert_array_equal(inputs[:, 1], inputs[:, 0] / 2)
        seen += [*train[0][:, 0], *validation[0][:, 0]]
    assert len(set(seen)) == len(seen) == 32
    for wrong, message in (
        ({"label": "kind"}, "task hf:birds: has no column 'kind', but wing, tail, species"),
        ({"train": "all"}, "task hf:birds: has no split 'all', but train"),
        ({"input": "wing"}, "task hf:birds: wing have 1 numbers an example, expected 2 finite ones"),
        ({"classes": "owl,elk"}, "task hf:birds: holds the class 'tit', expected owl, elk"),
        ({"input": "species"}, "task hf:birds: species: .*; texts need a task of your own"),
    ):
        with pytest.raises(TaskError, match=message):
            parts_of(experiment_of(folder, options | wrong), 0)
    with pytest.raises(TaskError, match="expected hf:NAME or hf:OWNER/NAME"):
        parts_of(experiment_of(folder, options, "hf:../birds"), 0)


@pytest.mark.extras
def test_images_that_were_saved_are_read(tmp_path: Path) -> None:
    datasets, image = pytest.importorskip("datasets", minversion="5.2"), pytest.importorskip("PIL.Image")

    def split(count: int) -> Any:
        images = [image.new("L", (8, 8), 51 * (number % 2)) for number in range(count)]
        return datasets.Dataset.from_dict({"image": images, "label": [number % 2 for number in range(count)]})

    datasets.DatasetDict({"train": split(20), "test": split(10)}).save_to_disk(str(tmp_path))
    train, _, test = parts_of(experiment_of(tmp_path, {"channels": 1, "size": 8, "classes": 2}), 0)
    assert len(test[1]) == 10
    assert train[0].shape[1:] == (1, 8, 8)
    np.testing.assert_allclose(train[0][:, 0, 0, 0], 0.2 * train[1])


TEXTS = {"classes": 2, "input": "title,text", "length": 6, "words": 50}
BERT = (
    "transformers:bert?vocab_size=50&hidden_size=16&num_hidden_layers=1&num_attention_heads=2&intermediate_size=16"
    '&num_labels=2&architectures=["BertForSequenceClassification"]'
)


def write_texts(folder: Path, count: int = 40) -> Path:
    rows = [{"title": f"Title {row % 2}", "text": "says: MORE!" * (row % 3), "label": row % 2} for row in range(count)]
    (folder / "birds").mkdir()
    (folder / "birds" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "birds"


def test_words_of_texts_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", minversion="5.2")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    experiment = experiment_of(write_texts(tmp_path), TEXTS, model="transformer")
    (inputs, labels), *_ = parts_of(experiment, 0)
    assert inputs.shape[1:] == (6,)
    assert set((inputs > 0).sum(axis=1)) == {2, 4, 6}
    assert inputs.max() < 50
    assert len({*zip(inputs[:, 1], labels, strict=True)}) == 2
    assert load_task(experiment, ("hf:birds",)).model()(torch.from_numpy(inputs)).shape == (len(labels), 2)
    with pytest.raises(TaskError, match=r"task hf:birds: holds 0, expected a text, as task.options.length says"):
        parts_of(experiment_of(tmp_path / "birds", TEXTS | {"input": "label"}), 0)
    with pytest.raises(TaskError, match=r"task.options.words = 1: expected an integer from 2"):
        parts_of(experiment_of(tmp_path / "birds", TEXTS | {"words": 1}), 0)


def test_a_model_of_transformers_learns_from_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare()
    datasets = pytest.importorskip("datasets", minversion="5.2")
    pytest.importorskip("transformers")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    task = {"model": BERT, "objective": "hugging-face"}
    table = experiment_of(write_texts(tmp_path), TEXTS, **task).model_dump()
    experiment = validate(
        table | {"rounds": 3, "training": {"optimizer": "adam", "lr": 0.01}, "strategy": {"rewind": "none"}},
        source="test",
    )
    with lotteryfl.simulate(experiment, tmp_path / "run", device="cpu", tasks=["hf:birds"]) as view:
        assert view.status().state == view.status().FINISHED
        assert view.rounds()["accuracy_personalised"].iloc[-1] > 0.9
