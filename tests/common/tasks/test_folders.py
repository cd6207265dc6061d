"""A folder of client folders as a task without code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.tasks import load_task


def experiment_of(folder: Path, options: dict[str, Any], clients: int = 2, **task: Any) -> Experiment:
    table = {"name": "folders", "data_dir": str(folder), "options": options, **task}
    return validate({"clients": clients, "clients_per_round": clients, "task": table}, source="test")


def parts_of(experiment: Experiment, client: int) -> list[tuple[np.ndarray, np.ndarray]]:
    data = load_task(experiment).client_data(client)
    parts: list[Any] = [data.train, data.validation, data.test]
    return [tuple(tensor.numpy() for tensor in part.tensors) for part in parts]


def write_csv(folder: Path, client: str, name: str = "rows", *, header: str = "a,age,b\n", rows: int = 20) -> Path:
    (folder / client).mkdir(parents=True, exist_ok=True)
    path = folder / client / f"{name}.csv"
    path.write_text(header + "".join(f"{row},{row % 2},{row / 2}\n" for row in range(rows)))
    return path


def test_a_table_is_split_class_by_class(tmp_path: Path) -> None:
    write_csv(tmp_path, "0")
    experiment = experiment_of(tmp_path, {"features": 2, "classes": 2, "label": "age"})
    train, validation, test = parts_of(experiment, 0)
    assert [len(labels) for _, labels in (train, validation, test)] == [12, 4, 4]
    inputs, labels = (np.concatenate(columns) for columns in zip(train, validation, test, strict=True))
    assert sorted(inputs[:, 0]) == list(range(20))
    np.testing.assert_array_equal(inputs[:, 1], inputs[:, 0] / 2)
    np.testing.assert_array_equal(labels, inputs[:, 0] % 2)
    again = parts_of(experiment, 0)
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(again, (train, validation, test), strict=True))
    task = load_task(experiment)
    assert task.model()(task.client_data(0).train[:][0]).shape == (12, 2)


def test_parts_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    for name, rows in (("train", 10), ("validation", 6), ("test", 4)):
        write_csv(tmp_path, "clinic", name, rows=rows)
    write_csv(tmp_path, "hospital", header="")
    experiment = experiment_of(tmp_path, {"features": 2}, objective="regression")
    assert [len(labels) for _, labels in parts_of(experiment, 0)] == [10, 6, 4]
    train, *_ = parts_of(experiment, 1)  # the last column is the label
    np.testing.assert_array_equal(train[1], train[0][:, 0] / 2)
    assert train[1].dtype == np.float32


def test_arrays_are_read_and_bytes_scaled(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    images = np.full((10, 1, 8, 8), 51, dtype=np.uint8)
    np.savez(tmp_path / "0" / "all.npz", x=images, y=np.array(["cat", "dog"] * 5))
    experiment = experiment_of(tmp_path, {"channels": 1, "size": 8, "classes": "dog,cat"}, 1)
    train, *_ = parts_of(experiment, 0)
    assert train[0].shape[1:] == (1, 8, 8)
    assert np.unique(train[0]).tolist() == [np.float32(0.2)]
    assert set(train[1]) == {0, 1}


def test_images_lie_in_class_folders(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for label, name in enumerate(("dog", "cat")):
        (tmp_path / "0" / name).mkdir(parents=True)
        for number in range(5):
            image.new("RGB", (20, 10), (255 * label, 0, 51)).save(tmp_path / "0" / name / f"{number}.png")
    experiment = experiment_of(tmp_path, {"size": 16, "classes": "dog,cat"}, 1, model="cnn")
    for inputs, labels in parts_of(experiment, 0):
        assert inputs.shape[1:] == (3, 16, 16)
        np.testing.assert_array_equal(inputs[:, 0, 3, 5], labels)
        np.testing.assert_allclose(inputs[:, 2, 3, 5], 0.2)
    (tmp_path / "0" / "dog" / "0.png").write_bytes(b"no image")
    with pytest.raises(TaskError, match=r"^\S+/0/dog/0.png: cannot identify image file"):
        parts_of(experiment, 0)
    with pytest.raises(TaskError, match=r"/0/cat: holds images of no class of task.options.classes: dog, fox"):
        parts_of(experiment_of(tmp_path, {"classes": "dog,fox"}, 1), 0)


TABLE = {"features": 2, "classes": 2, "label": "age"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"task.options.classes = '': expected their number, or their names"),
        ({"classes": "a,a"}, r"task.options.classes = 'a,a': expected"),
        ({"classes": 2, "depth": 1}, r"task.options.depth: is unknown, expected features, "),
        ({"classes": 2, "size": 0}, r"task.options.size = 0: expected an integer from 1"),
        (TABLE | {"features": 3}, r"rows.csv: inputs have shape \(20, 2\), expected \(examples, 3\)"),
        (TABLE | {"label": "weight"}, r"rows.csv: task.options.label = 'weight': there is no column of this name"),
        (TABLE | {"label": "a"}, r"rows.csv: holds the label 2, expected integers from 0 to 1"),
        (TABLE | {"classes": "x,y"}, r"rows.csv: holds the class '0', expected x, y"),
        (TABLE | {"test_share": 1.0}, r"task.options.test_share = 1.0: expected a number between 0 and 1"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_csv(tmp_path, "0")
    with pytest.raises(TaskError, match=message):
        parts_of(experiment_of(tmp_path, options), 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"", "rows.csv: is empty"),
        ("rows.csv", b"a,age,b\n1,0,2\n1,0\n", r"rows.csv: row 3 has 2 columns, expected 3"),
        ("rows.csv", b"a,age,b\n1,0,x\n", "rows.csv: could not convert"),
        ("rows.csv", b"a,age,b\n1,0,inf\n", "rows.csv: holds a number that is not finite"),
        ("rows.csv", b"\xff\xfe", "rows.csv: 'utf-8' codec"),
        ("rows.npz", b"PK", "rows.npz: "),
        ("rows.npz", b"", "rows.npz: No data left in file"),
        ("rows.txt", b"", "0: expected train/ or class folders with images, or a .npz or .csv file"),
    ],
)
def test_damaged_tables_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / name).write_bytes(content)
    with pytest.raises(TaskError, match=message):
        parts_of(experiment_of(tmp_path, TABLE), 0)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    np.savez(tmp_path / "0" / "rows.npz", x=np.array([{}], dtype=object), y=np.array([1]))
    with pytest.raises(TaskError, match=r"rows.npz: Object arrays cannot be loaded when allow_pickle=False"):
        parts_of(experiment_of(tmp_path, TABLE), 0)


def test_clients_are_found_by_number_or_all_by_name(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"task.data_dir = '.*none': No such file"):
        parts_of(experiment_of(tmp_path / "none", TABLE), 0)
    write_csv(tmp_path, "clinic")
    with pytest.raises(TaskError, match=r"holds 1 folders, expected one for each of 2 clients"):
        parts_of(experiment_of(tmp_path, TABLE), 0)
    write_csv(tmp_path, "1")
    assert parts_of(experiment_of(tmp_path, TABLE), 1)
    with pytest.raises(TaskError, match=r"has no folder 0 for client 0"):
        parts_of(experiment_of(tmp_path, TABLE), 0)


def test_no_file_of_ones_own_is_called_like_it(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="'folders' is a built-in task; give your own another name"):
        load_task(experiment_of(tmp_path, {}), ["/x/folders.py"])
