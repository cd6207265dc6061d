"""CIFAR-10, HAR and FEMNIST from tiny files in their real formats."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.tasks import BUILT_IN, load_task
from lotteryfl.common.tasks.datasets import cifar
from tests.support.cifar import NOWHERE


def experiment_of(name: str, folder: Path | str, clients: int = 4, model: str = "mlp", **sections: Any) -> Experiment:
    task = {"name": name, "data_dir": str(folder), "model": model}
    table = {"clients": clients, "clients_per_round": clients, "task": task, **sections}
    return validate(table, source="test")


def natural(name: str, folder: Path, clients: int, **keys: Any) -> list[tuple[tuple[Tensor, Tensor], ...]]:
    task = load_task(experiment_of(name, folder, clients, partition={"kind": "natural"}, **keys))
    parts = []
    for client in range(clients):
        data = task.client_data(client)
        stored = [part for part in (data.train, data.validation, data.test) if isinstance(part, TensorDataset)]
        assert len(stored) == 3
        parts.append(tuple((part.tensors[0], part.tensors[1]) for part in stored))
    return parts


@pytest.mark.parametrize(
    ("name", "model", "remedy"),
    [
        ("cifar10", "mlp", "cifar-10-binary.tar.gz .* pickled and not read.* set task.data_dir"),
        (
            "cifar100",
            "mlp",
            "cifar-100-binary.tar.gz .*cs.toronto.edu/~kriz.* pickled and not read.* set task.data_dir",
        ),
        ("cinic10", "mlp", "CINIC-10.tar.gz of https://github.com/BayesWatch/cinic-10 .* set task.data_dir"),
        ("svhn", "mlp", "http://ufldl.stanford.edu/housenumbers.* set task.data_dir"),
        ("tiny-imagenet", "mlp", "tiny-imagenet-200.zip of http://cs231n.stanford.edu .* set task.data_dir"),
        ("ag-news", "transformer", "ag_news_csv.tar.gz.* set task.data_dir"),
        ("har", "mlp", "UCI HAR Dataset.zip.* set task.data_dir"),
        ("femnist", "mlp", r"all_data_\*.json that LEAF .* set task.data_dir"),
    ],
)
def test_without_data_the_error_says_what_to_do(
    name: str, model: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for key, version in cifar._VERSIONS.items():  # nobody is asked for their archives
        archive = replace(version.archive, url=version.archive.url.replace("https://www.cs.toronto.edu", NOWHERE))
        monkeypatch.setitem(cifar._VERSIONS, key, replace(version, archive=archive))
    task = load_task(experiment_of(name, "", model=model))
    assert isinstance(task.model(), nn.Module)
    with pytest.raises(TaskError, match=f"task {name}: no data in {tmp_path}/lotteryfl/.*; .*{remedy}"):
        task.client_data(0)


# ---- CIFAR-10


def write_cifar(folder: Path) -> Path:
    """60 records a file; pixel (channel, row, column) of a record is 80 · channel + 2 · row + (column is 31)."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = 80 * np.arange(3)[:, None, None] + 2 * np.arange(32)[:, None] + (np.arange(32) == 31)
    for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
        labels = (np.arange(60) % 10)[:, None]
        records = np.hstack([labels, np.tile(pixels.reshape(1, -1), (60, 1))])
        (folder / name).write_bytes(records.astype(np.uint8).tobytes())
    return folder


def test_cifar_records_become_normalised_colour_images(tmp_path: Path) -> None:
    task = load_task(experiment_of("cifar10", write_cifar(tmp_path), model="cnn"))
    inputs, labels = task.client_data(0).train.tensors  # type: ignore[attr-defined]
    assert inputs.shape == (32, 3, 32, 32)
    assert inputs[0, 1, 3, 31] == pytest.approx(((80 + 6 + 1) / 255 - 0.4822) / 0.2435, rel=1e-5)
    assert inputs[0, 2, 5, 0] == pytest.approx(((160 + 10) / 255 - 0.4465) / 0.2616, rel=1e-5)
    assert nn.functional.cross_entropy(task.model()(inputs), labels).isfinite()
    train, test = BUILT_IN["cifar10"](experiment_of("cifar10", tmp_path))
    assert (len(train.labels), len(test.labels)) == (300, 60)
    assert train.labels[:12].tolist() == [*range(10), 0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected 1 to 10000 records of 3073 bytes and nothing else"),
        (bytes(3072), "expected 1 to 10000 records of 3073 bytes"),
        (bytes(3073) + b"x", "expected 1 to 10000 records of 3073 bytes"),
        (bytes([10]) + bytes(3072), "holds the label 10, expected 0 to 9"),
        (None, "No such file or directory; it comes with cifar-10-binary.tar.gz of https://www.cs.toronto.edu/~kriz"),
    ],
)
def test_damaged_cifar_files_are_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = write_cifar(tmp_path) / "data_batch_3.bin"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TaskError, match=f"{path}: {message}"):
        BUILT_IN["cifar10"](experiment_of("cifar10", tmp_path))


def test_the_second_label_of_cifar_100_counts(tmp_path: Path) -> None:
    for name in ("train.bin", "test.bin"):
        records = [bytes([number % 20, number % 100]) + bytes([51]) * 3072 for number in range(200)]
        (tmp_path / name).write_bytes(b"".join(records))
    train, _ = BUILT_IN["cifar100"](experiment_of("cifar100", tmp_path))
    assert train.labels.tolist() == [number % 100 for number in range(200)]
    inputs, _ = train.dataset(np.arange(2)).tensors
    expected = [(0.2 - 0.5071) / 0.2673, (0.2 - 0.4865) / 0.2564, (0.2 - 0.4409) / 0.2762]
    assert inputs[0, :, 3, 4].tolist() == pytest.approx(expected, rel=1e-5)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "train.bin").write_bytes(bytes([0, 100]) + bytes(3072))
    with pytest.raises(TaskError, match=r"train.bin: holds the label 100, expected 0 to 99"):
        BUILT_IN["cifar100"](experiment_of("cifar100", tmp_path / "bad"))


# ---- HAR


def write_har(folder: Path) -> Path:
    """Subjects 1 and 3 in train, 2 in test; 8 windows of each of two activities, the first feature is its time."""
    for part, subjects in (("train", (1, 3)), ("test", (2,))):
        (folder / part).mkdir(parents=True, exist_ok=True)
        rows, labels, owners = [], [], []
        for subject in subjects:
            for activity in (subject, 6):
                for time in range(8):
                    rows.append(" ".join(["", f"{time / 10: .7e}"] + [f"{subject / 100: .7e}"] * 560))
                    labels.append(str(activity))
                    owners.append(str(subject))
        for name, lines in (("X", rows), ("y", labels), ("subject", owners)):
            (folder / part / f"{name}_{part}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_a_subject_of_har_is_tested_on_its_later_windows(tmp_path: Path) -> None:
    subjects = set()
    for parts in natural("har", write_har(tmp_path), 3):
        train, validation, test = parts
        (subject,) = {round(100 * value) for inputs, _ in parts for value in inputs[:, 1].tolist()}
        subjects.add(subject)
        for inputs, labels in parts:
            assert inputs.dtype == torch.float32
            assert inputs.shape[1] == 561
            assert set(labels.tolist()) == {subject - 1, 5}
        earlier = torch.cat([train[0], validation[0]])[:, 0]
        assert test[0][:, 0].min() > earlier.max()
        assert sorted(torch.cat([earlier, test[0][:, 0]]).mul(10).round().int().tolist()) == sorted(list(range(8)) * 2)
    assert subjects == {1, 2, 3}


def test_har_has_no_more_clients_than_subjects(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"clients = 4: .* one for each of the 3 owners"):
        natural("har", write_har(tmp_path), 4)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("X_train.txt", " 1.0 2.0\n", "expected 561 finite numbers in every line"),
        ("X_train.txt", " ".join(["nan"] * 561), "expected 561 finite numbers in every line"),
        ("X_train.txt", "", "is empty"),
        ("X_train.txt", "one two\n", "could not convert"),
        ("y_train.txt", "7\n" * 32, "expected 32 lines with one number from 1 to 6"),
        ("y_train.txt", "1.5\n" * 32, "expected 32 lines with one number from 1 to 6"),
        ("y_train.txt", "1\n" * 31, "expected 32 lines with one number from 1 to 6"),
        ("subject_train.txt", "31\n" * 32, "expected 32 lines with one number from 1 to 30"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_damaged_har_files_are_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = write_har(tmp_path) / "train" / name
    path.write_text(text)
    with pytest.raises(TaskError, match=f"{path}: {message}"):
        BUILT_IN["har"](experiment_of("har", tmp_path))


# ---- FEMNIST


def write_leaf(folder: Path, change: Callable[[dict[str, Any]], object] = lambda content: None) -> Path:
    """Writers w0 … w11 in two files, ten to a file as a rule; writer n's pixels are all n / 255 off white."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, writers in enumerate((range(10), range(10, 12))):
        users = [f"w{writer}" for writer in writers]
        data = {
            f"w{writer}": {"x": [[1 - writer / 255] * 784] * 20, "y": [writer] * 10 + [61] * 10} for writer in writers
        }
        content = {"users": users, "num_samples": [20] * len(users), "user_data": data}
        if number == 1:
            change(content)
        (folder / f"all_data_{number}.json").write_text(json.dumps(content))
    return folder


def test_a_writer_of_femnist_is_a_client(tmp_path: Path) -> None:
    writers = set()
    for parts in natural("femnist", write_leaf(tmp_path), 12, model="cnn"):
        (writer,) = {round(255 * value) for inputs, _ in parts for value in inputs.unique().tolist()}
        writers.add(writer)
        assert [len(labels) for _, labels in parts] == [12, 4, 4]
        for inputs, labels in parts:
            assert inputs.shape[1:] == (1, 28, 28)
            assert set(labels.tolist()) == {writer, 61}
    assert writers == set(range(12))


def test_femnist_can_be_dealt_otherwise(tmp_path: Path) -> None:
    partition = {"kind": "iid", "examples_per_client": 50}
    task = load_task(experiment_of("femnist", write_leaf(tmp_path), partition=partition))
    inputs, labels = task.client_data(0).train.tensors  # type: ignore[attr-defined]
    assert nn.functional.cross_entropy(task.model()(inputs), labels).isfinite()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("users"), "expected an object with 'users'"),
        (lambda content: content["users"].append("w99"), "expected an object with 'users'"),
        (lambda content: content["user_data"]["w10"].pop("x"), "writer 'w10': expected 'x' and 'y'"),
        (lambda content: content["user_data"]["w10"]["y"].append(3), "writer 'w10': expected 21 × 784 numbers"),
        (
            lambda content: content["user_data"]["w10"].update(x=[[2.0] * 784] * 20),
            "writer 'w10': .* from 0 to 1 in 'x'",
        ),
        (lambda content: content["user_data"]["w10"].update(x=[[0.0], [0.0, 1.0]]), "writer 'w10': "),
        (
            lambda content: content["user_data"]["w10"].update(y=[62] * 20),
            "writer 'w10': expected integers from 0 to 61",
        ),
        (lambda content: content["user_data"]["w10"].update(y=[1.5] * 20), "writer 'w10': expected integers"),
        (
            lambda content: (
                content["users"].append("w3"),
                content["user_data"].update(w3=content["user_data"]["w10"]),
            ),
            "writer 'w3' is in another file too",
        ),
    ],
)
def test_damaged_leaf_files_are_named(change: Any, message: str, tmp_path: Path) -> None:
    path = write_leaf(tmp_path, change) / "all_data_1.json"
    with pytest.raises(TaskError, match=f"{path}: {message}"):
        BUILT_IN["femnist"](experiment_of("femnist", tmp_path))


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_named(content: bytes, tmp_path: Path) -> None:
    path = write_leaf(tmp_path) / "all_data_1.json"
    path.write_bytes(content)
    with pytest.raises(TaskError, match=f"{path}: not valid JSON"):
        BUILT_IN["femnist"](experiment_of("femnist", tmp_path))


def test_an_empty_femnist_folder(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=rf"{tmp_path}: there is no all_data_\*.json, as LEAF"):
        BUILT_IN["femnist"](experiment_of("femnist", tmp_path))
