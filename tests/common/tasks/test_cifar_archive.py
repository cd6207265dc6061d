"""CIFAR's archive: fetched over HTTP, held against its digest, unpacked; and what is said where that cannot be."""

from pathlib import Path

import numpy as np
import pytest

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import TaskSettings
from lotteryfl.common.tasks.datasets.cifar import load
from tests.support.cifar import NOWHERE, TEN, files_of_ten, packed, publish, served, write_ten

FILES = files_of_ten(20)
CONTENT = packed(FILES)


def experiment(data_dir: Path | str) -> Experiment:
    return Experiment(task=TaskSettings(name="cifar10", data_dir=str(data_dir)))


def assert_read(data_dir: Path | str) -> None:
    train, test = load(experiment(data_dir))
    assert train.labels.tolist() == [record for name in TEN[:5] for record in FILES[name][::3073]]
    assert test.labels.tolist() == list(FILES[TEN[5]][::3073])
    assert train.stored[3].numpy().tobytes() == FILES[TEN[0]][3 * 3073 + 1 : 4 * 3073]


def test_it_is_fetched_once_into_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(CONTENT) as (address, asked):
        publish(monkeypatch, CONTENT, address)
        assert_read(tmp_path)
        assert_read(tmp_path)
    assert asked == ["/cifar-10-binary.tar.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-batches-bin"]
    assert sorted(path.name for path in (tmp_path / "cifar-10-batches-bin").iterdir()) == TEN


def test_where_no_folder_is_named_it_is_fetched_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    with served(CONTENT) as (address, _):
        publish(monkeypatch, CONTENT, address)
        assert_read("")
    assert (tmp_path / "new/lotteryfl/cifar-10-batches-bin/test_batch.bin").is_file()


def test_an_archive_that_is_there_is_taken_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(CONTENT)
    publish(monkeypatch, CONTENT)
    assert_read(tmp_path)


def test_without_a_network_a_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, CONTENT)
    with pytest.raises(TaskError) as caught:
        load(experiment(tmp_path))
    url, page = f"{NOWHERE}/cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar.html"
    assert str(caught.value) == (
        f"task cifar10: no data in {tmp_path}/cifar-10-batches-bin; {url} cannot be fetched: [Errno 111] Connection "
        f"refused; put cifar-10-binary.tar.gz of {page} there, or unpack it (the one for Python is pickled and not "
        "read), or set task.data_dir to its folder"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (CONTENT[:-1], f"has {len(CONTENT) - 1} bytes or more, expected {len(CONTENT)} of http"),
        (CONTENT + b"x", f"has {len(CONTENT) + 1} bytes or more, expected {len(CONTENT)} of http"),
        (CONTENT[:-1] + b"x", "its SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64} of http"),
    ],
)
def test_one_that_is_not_as_published_is_not_unpacked(
    there: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(there) as (address, _):
        publish(monkeypatch, CONTENT, address)
        with pytest.raises(TaskError, match=rf"cifar-10-binary.tar.gz: {message}"):
            load(experiment(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "cannot be unpacked: not a gzip file"),
        (CONTENT[:1000], "cannot be unpacked: "),
        (packed({name: FILES[name] for name in TEN[:4]}), "has no cifar-10-batches-bin/data_batch_5.bin of at most"),
        (
            packed({**FILES, TEN[2]: bytes(10_001 * 3073)}),
            "has no cifar-10-batches-bin/data_batch_3.bin of at most 307300",
        ),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(content)
    publish(monkeypatch, content)
    with pytest.raises(TaskError, match=rf"cifar-10-binary.tar.gz: {message}"):
        load(experiment(tmp_path))


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "data_batch_1", "cifar-10-batches-py"])
def test_the_version_for_python_is_not_read_and_the_other_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, CONTENT)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(TaskError, match=rf"{name} is of the version for Python: put cifar-10-binary.tar.gz of"):
        load(experiment(tmp_path))


def test_a_folder_above_the_files_will_do(tmp_path: Path) -> None:
    write_ten(tmp_path / "cifar-10-batches-bin", 20)
    assert_read(tmp_path)


def test_textures_tell_their_classes_apart(tmp_path: Path) -> None:
    train, _ = load(experiment(write_ten(tmp_path)))
    means = np.stack([train.stored[train.labels == label].float().mean(dim=(0, 2, 3)).numpy() for label in range(10)])
    distances = np.abs(means[:, None] - means).sum(axis=2) + 1000 * np.eye(10)
    assert distances.min() > 5
