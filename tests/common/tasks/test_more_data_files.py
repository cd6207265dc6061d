"""CINIC-10, SVHN, Tiny-ImageNet and AG News from tiny files in their real formats."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.tasks import BUILT_IN, load_task

ALL = {"kind": "iid", "examples_per_client": 0}
CINIC = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WNIDS = ("n02124075", "n01443537", "n12267677")  # not in the order of their names


def experiment_of(name: str, folder: Path, model: str = "cnn") -> Experiment:
    task = {"name": name, "data_dir": str(folder), "model": model}
    return validate({"clients": 2, "clients_per_round": 2, "task": task, "partition": ALL}, source="test")


def write_image(path: Path, size: int, colour: Any, mode: str = "RGB") -> None:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new(mode, (size, size), colour).save(path)


def write_cinic(folder: Path) -> Path:
    for part in ("train", "test", "valid"):
        for label, name in enumerate(CINIC):
            for number in range(6 if part == "train" else 2):
                write_image(folder / part / name / f"cifar10-{part}-{number}.png", 32, (label, 51, 255))
    return folder


def write_tiny_imagenet(folder: Path) -> Path:
    annotations = []
    for label, name in enumerate(sorted(WNIDS)):
        for number in range(6):
            write_image(folder / "train" / name / "images" / f"{name}_{number}.JPEG", 64, (80 * label, 0, 0))
        (folder / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t62\t62\n")
        for number in range(2):
            image = f"val_{3 * number + label}.JPEG"
            annotations.append(f"{image}\t{name}\t0\t32\t44\t62\n")
            write_image(folder / "val" / "images" / image, 64, 80 * label, mode="L")  # a few of the real ones are grey
    (folder / "wnids.txt").write_text("\n".join(WNIDS))
    (folder / "val" / "val_annotations.txt").write_text("".join(annotations))
    return folder


def assert_learnable(name: str, folder: Path, model: str = "cnn") -> None:
    task = load_task(experiment_of(name, folder, model))
    inputs, labels = task.client_data(0).train.tensors  # type: ignore[attr-defined]
    assert nn.functional.cross_entropy(task.model()(inputs), labels).isfinite()


def test_images_of_cinic_10_lie_in_class_folders(tmp_path: Path) -> None:
    write_cinic(tmp_path)
    train, test = BUILT_IN["cinic10"](experiment_of("cinic10", tmp_path))
    assert train.stored.shape == (60, 3, 32, 32)
    assert train.labels.tolist() == [label for label in range(10) for _ in range(6)]
    assert train.stored[:, :, 5, 6].tolist() == [[label, 51, 255] for label in range(10) for _ in range(6)]
    assert test.labels.tolist() == [label for label in range(10) for _ in range(2)]
    inputs, _ = train.dataset(np.arange(1)).tensors
    assert inputs[0, 1, 3, 3] == pytest.approx((0.2 - 0.4723) / 0.2383, rel=1e-5)
    assert_learnable("cinic10", tmp_path)


def test_images_of_tiny_imagenet_are_those_of_its_lists(tmp_path: Path) -> None:
    train, test = BUILT_IN["tiny-imagenet"](experiment_of("tiny-imagenet", write_tiny_imagenet(tmp_path)))
    assert train.stored.shape == (18, 3, 64, 64)
    assert train.labels.tolist() == [label for label in range(3) for _ in range(6)]
    red = train.stored[:, 0].float().mean(dim=(1, 2))
    assert red.tolist() == pytest.approx([80 * label for label in range(3) for _ in range(6)], abs=3)  # by JPEG
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(test.stored.float().mean(dim=(2, 3)), np.repeat([0, 80, 160], 6).reshape(6, 3), atol=1)
    assert_learnable("tiny-imagenet", tmp_path)


CLASS_OF_CINIC, IMAGE_OF_CINIC = "test/ship", "train/dog/cifar10-train-3.png"
ANNOTATIONS, WORDS = "val/val_annotations.txt", "wnids.txt"


@pytest.mark.parametrize(
    ("write", "name", "file", "content", "message"),
    [
        (write_cinic, "cinic10", CLASS_OF_CINIC, None, "test/ship: No such file .*comes with CINIC-10.tar.gz of https"),
        (write_cinic, "cinic10", IMAGE_OF_CINIC, "no image", "cifar10-train-3.png: cannot identify image file"),
        (
            write_tiny_imagenet,
            "tiny-imagenet",
            WORDS,
            None,
            r"wnids.txt: No such file .*tiny-imagenet-200.zip of http",
        ),
        (write_tiny_imagenet, "tiny-imagenet", WORDS, "", r"wnids.txt: expected 1 to 200 lines with a class each"),
        (write_tiny_imagenet, "tiny-imagenet", WORDS, "n1\nn1\n", r"wnids.txt: expected 1 to 200 lines"),
        (write_tiny_imagenet, "tiny-imagenet", WORDS, "../n1\n", r"wnids.txt: expected 1 to 200 lines"),
        (write_tiny_imagenet, "tiny-imagenet", ANNOTATIONS, None, r"val_annotations.txt: No such file .*comes with"),
        (write_tiny_imagenet, "tiny-imagenet", ANNOTATIONS, "", r"val_annotations.txt: is empty"),
        (
            write_tiny_imagenet,
            "tiny-imagenet",
            ANNOTATIONS,
            "val_0.JPEG\tn01443537\nval_1.JPEG\tn7\n",
            r"val_annotations.txt: line 2: expected an image and one of 3 classes, got 'val_1.JPEG\\tn7'",
        ),
        (
            write_tiny_imagenet,
            "tiny-imagenet",
            ANNOTATIONS,
            "../../x.JPEG\tn01443537\n",
            r"val_annotations.txt: line 1: expected an image",
        ),
        (
            write_tiny_imagenet,
            "tiny-imagenet",
            ANNOTATIONS,
            "val_9.JPEG\tn01443537\n",
            r"val/images/val_9.JPEG: No such file or directory$",
        ),
        (
            write_tiny_imagenet,
            "tiny-imagenet",
            ANNOTATIONS,
            "val_annotations.txt\tn01443537\n",
            r"val/images/val_annotations.txt: expected an image: .png, ",
        ),
    ],
)
def test_images_that_are_not_as_published_are_named(
    write: Callable[[Path], Path], name: str, file: str, content: str | None, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path) / file
    if content is None:
        path.rename(path.with_name("elsewhere"))
    else:
        path.write_text(content)
    with pytest.raises(TaskError, match=rf"^{tmp_path}/.*{message}"):
        BUILT_IN[name](experiment_of(name, tmp_path))


def test_house_numbers_are_turned_from_matlabs_order(tmp_path: Path) -> None:
    from scipy.io import savemat

    pixels = np.zeros((32, 32, 3, 40), dtype=np.uint8)
    pixels[1, 2, 0, 3] = 255
    for name in ("train", "test"):
        content = {"X": pixels, "y": np.arange(40)[:, None] % 10 + 1}
        savemat(tmp_path / f"{name}_32x32.mat", content, do_compression=True)
    train, _ = BUILT_IN["svhn"](experiment_of("svhn", tmp_path))
    assert train.stored.nonzero().tolist() == [[3, 0, 1, 2]]
    assert train.labels[8:10].tolist() == [9, 0]
    assert_learnable("svhn", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"X": np.zeros((31, 32, 3, 2), np.uint8), "y": np.ones(2)}, r"X is uint8 of shape \(31, 32, 3, 2\), expected"),
        (
            {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones(3)},
            r"X .*, expected uint8 of \(32, 32, 3, 3\), as",
        ),
        ({"X": np.zeros((32, 32, 3, 2)), "y": np.ones(2)}, r"X is float64 of shape"),
        (
            {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.zeros(2)},
            "expected labels from 1 to 10, of which 10 is a 0",
        ),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "is no MATLAB file with X and y: KeyError: 'y'"),
        (b"no MATLAB file", "is no MATLAB file with X and y: "),
        (b"", "is no MATLAB file with X and y: "),
        (None, "No such file or directory; it comes with Format 2 of http://ufldl.stanford.edu/housenumbers"),
    ],
)
def test_damaged_house_numbers_are_named(content: Any, message: str, tmp_path: Path) -> None:
    from scipy.io import savemat

    path = tmp_path / "train_32x32.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        savemat(path, content)
    with pytest.raises(TaskError, match=f"{path}: {message}"):
        BUILT_IN["svhn"](experiment_of("svhn", tmp_path))


def test_news_are_numbered_words(tmp_path: Path) -> None:
    for name in ("train", "test"):
        rows = [f'"{1 + number % 4}","Title {number % 4}","It says, ""more"""' for number in range(60)]
        (tmp_path / f"{name}.csv").write_text("\n".join(rows))
    train, _ = BUILT_IN["ag-news"](experiment_of("ag-news", tmp_path, "transformer"))
    assert train.stored.shape == (60, 64)
    assert ((train.stored > 0).sum(dim=1) == 5).all()
    assert train.stored.max() < 8192
    assert len({*zip(train.stored[:, 1].tolist(), train.labels.tolist(), strict=True)}) == 4
    assert (train.stored[:, 0] == 1 + 0x2B36786B % 8191).all()  # CRC-32 of "title": the same on every machine
    assert_learnable("ag-news", tmp_path, "transformer")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"1","a","b"\n"5","a","b"\n', "row 2: expected a class from 1 to 4, a title, a description"),
        (b'"1","a"\n', "row 1: expected a class"),
        (b"", "is empty"),
        (b"\xff\xfe", "'utf-8' codec can't decode"),
        (b'"1","' + b"a" * 200_000, "field larger than field limit"),
        (None, "No such file or directory; it comes with ag_news_csv.tar.gz"),
    ],
)
def test_damaged_news_are_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TaskError, match=f"{path}: {message}"):
        BUILT_IN["ag-news"](experiment_of("ag-news", tmp_path, "transformer"))
