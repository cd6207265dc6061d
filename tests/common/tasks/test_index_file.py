"""Who holds what, said by a file."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lotteryfl.common.errors import ExperimentError, TaskError
from lotteryfl.common.experiment.experiment import load
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.tasks.partition import Partition

TRAIN, TEST = np.arange(40) % 2, np.arange(20) % 2


def partition(path: Path, content: Any, clients: int = 2, sha256: str = "") -> Partition:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    settings = PartitionSettings(kind="file", file=str(path), sha256=sha256, validation_share=0.25)
    return Partition(TRAIN, TEST, settings, clients, 0)


@pytest.mark.parametrize("as_list", [False, True])
def test_a_client_holds_what_the_file_says(as_list: bool, tmp_path: Path) -> None:
    clients = [[8, 6, 4, 2], {"train": [9, 1], "validation": [3], "test": [7, 0]}, "not asked for"]
    content: Any = clients if as_list else {str(number): client for number, client in enumerate(clients)}
    dealt = partition(tmp_path / "who.json", content)
    first, second = dealt.client(0), dealt.client(1)
    assert sorted([*first.train, *first.validation]) == [2, 4, 6, 8]
    assert len(first.validation) == 1
    assert first.test.tolist() == list(range(0, 20, 2))  # of its class
    assert [part.tolist() for part in (second.train, second.validation, second.test)] == [[9, 1], [3], [7, 0]]


def test_a_long_file_is_read_to_its_end(tmp_path: Path) -> None:
    dealt = partition(tmp_path / "who.json", "[[1, 3]," + " " * 2**21 + '{"train": [5], "validation": [2]}]')
    assert dealt.client(1).train.tolist() == [5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"0": [1, 2], "0": [3, 4]}', "a key is there twice"),
        ("7", "is 7, expected an object or a list with an entry for each client"),
        ({"0": [1, 2]}, "says nothing of client 1, and of 1 clients altogether"),
        ([[1, 2]], "says nothing of client 1"),
        ([[1, 2], [40]], "client 1: train holds 40, expected integers from 0 to 39"),
        ([[1, 2], [-1]], "client 1: train holds -1, expected"),
        ([[1, 2], [True]], "client 1: train holds True, expected"),
        ([[1, 2], [1.0]], "client 1: train holds 1.0, expected"),
        ([[1, 2], "3"], "client 1: train is '3', expected a list of indices"),
        ([[1, 2], [3, 3]], "client 1: an index is twice in its training and validation examples"),
        ([[1, 2], {"train": [3], "validation": [3]}], "client 1: an index is twice"),
        ([[1, 2], {"train": [3, 5], "test": [20]}], "client 1: test holds 20, expected integers from 0 to 19"),
        ([[1, 2], {"train": [3], "tests": [3]}], "client 1: unknown key 'tests', expected train, validation, test"),
        ([[1, 2], {"test": [3]}], "client 1: expected a list of indices, or an object with 'train'"),
    ],
)
def test_what_is_no_index_file_is_named(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=message):
        partition(tmp_path / "who.json", content)


def test_a_client_without_examples_is_named(tmp_path: Path) -> None:
    dealt = partition(tmp_path / "who.json", [[], {"train": [1], "validation": []}])
    with pytest.raises(TaskError, match="client 0 holds no training examples"):
        dealt.client(0)
    with pytest.raises(TaskError, match="client 1 holds no validation examples"):
        dealt.client(1)


def test_another_file_than_the_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"who.json: its SHA-256 is [0-9a-f]{64}, the run's index file has 0{64}"):
        partition(tmp_path / "who.json", [[1], [2]], sha256="0" * 64)
    settings = PartitionSettings(kind="file", file=str(tmp_path / "none.json"))
    with pytest.raises(TaskError, match=r"none.json': No such file .*; a worker looks for it in its --data-dir"):
        Partition(TRAIN, TEST, settings, 2, 0)


def test_an_experiment_knows_its_index_file_by_digest(tmp_path: Path) -> None:
    (tmp_path / "who.json").write_text("[]")
    path = tmp_path / "experiment.toml"
    path.write_text('[partition]\nkind = "file"\nfile = "who.json"\n')
    found = load(path).partition
    assert found.file == str(tmp_path / "who.json")
    assert found.sha256 == hashlib.sha256(b"[]").hexdigest()
    assert found.without_place.file == "who.json"
    assert load(path, [f"partition.sha256={'0' * 64}"]).partition.sha256 == "0" * 64
    with pytest.raises(ExperimentError, match=r"partition.file = '.*gone.json': No such file"):
        load(path, ["partition.file=gone.json"])
    with pytest.raises(ExperimentError, match=r"partition.file = '': expected an index file"):
        load(path, ["partition.file="])
