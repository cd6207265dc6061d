import gzip
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.models import DATASETS
from lotteryfl.common.tasks import BUILT_IN, ClientData, Task, load_task
from lotteryfl.common.tasks.datasets import mnist
from lotteryfl.common.tasks.partition import Partition


def make_experiment(clients: int = 8, task: dict[str, Any] | None = None, **sections: Any) -> Experiment:
    table = {"clients": clients, "clients_per_round": clients, "task": task or {}, **sections}
    return validate(table, source="test")


def tensors(dataset: Dataset[Any]) -> tuple[Tensor, Tensor]:
    assert isinstance(dataset, TensorDataset)
    inputs, labels = dataset.tensors
    return inputs, labels


def assert_learnable(task: Task, client: int) -> None:
    """What a worker does: batches of every part go through the model and have a finite loss."""
    data = task.client_data(client)
    model = task.model().eval()
    for part in (data.train, data.validation, data.test):
        for inputs, labels in DataLoader(part, batch_size=64):
            assert inputs.dtype == torch.float32
            assert labels.dtype == torch.int64
            assert nn.functional.cross_entropy(model(inputs), labels).isfinite()


# ---- digits


def test_digits_are_dealt_normalised() -> None:
    task = load_task(make_experiment())
    assert task.name == "digits"
    for client in range(8):
        data = task.client_data(client)
        inputs, labels = tensors(data.train)
        assert inputs.shape == (32, 1, 8, 8)
        assert inputs.min() == 0
        assert inputs.max() == 1
        assert len(labels.unique()) == 2
        assert set(tensors(data.test)[1].tolist()) == set(labels.tolist())
    assert_learnable(task, 3)


def test_digits_inputs_and_labels_belong_together() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    label_of = {image.tobytes(): label for image, label in zip(digits.images / 16, digits.target, strict=True)}
    inputs, labels = tensors(load_task(make_experiment()).client_data(0).train)
    for image, label in zip(inputs.double().numpy(), labels.tolist(), strict=True):
        assert label_of[image.tobytes()] == label


def test_digits_training_and_test_images_are_apart_whoever_holds_them() -> None:
    task = load_task(make_experiment(40))
    clients = [task.client_data(client) for client in range(40)]

    def images(part: str) -> set[bytes]:
        return {image.tobytes() for client in clients for image in tensors(getattr(client, part))[0].numpy()}

    test = images("test")
    assert 440 <= len(test) <= 455  # a quarter of 1,797
    assert not test & (images("train") | images("validation"))


def test_a_client_has_the_same_data_in_every_process_and_another_with_another_seed() -> None:
    def first(seed: int) -> ClientData:
        return load_task(make_experiment(seed=seed)).client_data(5)

    one, again, other = first(1), first(1), first(2)
    for part in ("train", "validation", "test"):
        for ours, theirs in zip(tensors(getattr(one, part)), tensors(getattr(again, part)), strict=True):
            assert torch.equal(ours, theirs)
    assert not torch.equal(tensors(one.train)[0], tensors(other.train)[0])


@pytest.mark.parametrize("client", [-1, 8])
def test_a_client_out_of_range_is_refused(client: int) -> None:
    with pytest.raises(ValueError, match=f"client = {client}: expected 0 to 7"):
        load_task(make_experiment()).client_data(client)


def test_an_unknown_architecture_is_refused_at_once() -> None:
    with pytest.raises(TaskError, match=r"task.model = 'alexnet': expected one of mlp, .*resnet50"):
        load_task(make_experiment(task={"model": "alexnet"}))
    with pytest.raises(TaskError, match=r"task.model = 'mlp': expected one of transformer for languages"):
        load_task(make_experiment(task={"name": "languages"}))


def test_every_built_in_task_has_models() -> None:
    assert set(BUILT_IN) == set(DATASETS)


def test_feature_skew_turns_every_part_of_a_clients_images() -> None:
    """Against the iid client of the same seed, which holds the same examples upright."""
    upright = load_task(make_experiment(partition={"kind": "iid"}))
    turned = load_task(make_experiment(partition={"kind": "feature-skew"}))
    for client, quarters in ((0, 0), (1, 1), (6, 2), (7, 3)):
        expected, found = upright.client_data(client), turned.client_data(client)
        for part in ("train", "validation", "test"):
            images, labels = tensors(getattr(expected, part))
            assert torch.equal(tensors(getattr(found, part))[0], torch.rot90(images, quarters, (2, 3)))
            assert torch.equal(tensors(getattr(found, part))[1], labels)


def test_corners_that_turn_in_are_background() -> None:
    task = load_task(make_experiment(partition={"kind": "feature-skew", "rotations": 8}))
    images, _ = tensors(task.client_data(1).train)
    assert images.min() == 0
    assert images[:, :, 0, 0].max() == 0


@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        ({"name": "tabular"}, "feature-skew", "'feature-skew': turns images, and task tabular has none"),
        ({"name": "digits"}, "natural", "'natural': task digits does not say who owns which example"),
    ],
)
def test_partitions_that_the_data_cannot_have_are_refused(task: dict[str, Any], kind: str, message: str) -> None:
    with pytest.raises(TaskError, match=f"partition.kind = {message}"):
        load_task(make_experiment(task=task, partition={"kind": kind})).client_data(0)


def test_data_is_the_callers_to_change() -> None:
    task = load_task(make_experiment())
    before = tensors(task.client_data(0).train)[0].clone()
    tensors(task.client_data(0).train)[0].zero_()
    assert torch.equal(tensors(task.client_data(0).train)[0], before)


def test_a_task_uses_the_partition_of_the_run() -> None:
    settings = make_experiment(seed=5)
    train, test = BUILT_IN["digits"](settings)
    partition = Partition(train.labels.numpy(), test.labels.numpy(), settings.partition, settings.clients, 5)
    expected = train.labels[torch.from_numpy(partition.client(2).validation)]
    assert torch.equal(tensors(load_task(settings).client_data(2).validation)[1], expected)


# ---- MNIST and Fashion-MNIST


def write_idx(folder: Path, name: str, array: np.ndarray, packed: bool = False) -> None:
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    if packed:
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
    else:
        (folder / name).write_bytes(content)


def write_mnist(folder: Path, packed: bool = False, side: int = 28) -> Path:
    """1,000 training and 200 test images in which every pixel is 20 times the label."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 1000), ("t10k", 200)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.broadcast_to((20 * labels)[:, None, None], (count, side, side))
        write_idx(folder, f"{part}-images-idx3-ubyte", images, packed)
        write_idx(folder, f"{part}-labels-idx1-ubyte", labels, packed)
    return folder


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data installed, an empty cache, no torchvision; returns the cache folder."""
    for name, source in mnist._SOURCES.items():
        bare = replace(source, system=tuple(tmp_path / "system" / name for _ in source.system))
        monkeypatch.setitem(mnist._SOURCES, name, bare)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    return tmp_path / "cache" / "lotteryfl"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("name", "mean", "std"), [("mnist", 0.1307, 0.3081), ("fashion-mnist", 0.2860, 0.3530)])
def test_idx_files_from_a_folder(name: str, mean: float, std: float, packed: bool, tmp_path: Path) -> None:
    folder = write_mnist(tmp_path, packed)
    task = load_task(make_experiment(task={"name": name, "data_dir": str(folder), "model": "cnn"}))
    data = task.client_data(7)
    inputs, labels = tensors(data.train)
    assert inputs.shape == (32, 1, 28, 28)
    expected = (20 * labels / 255 - mean) / std
    torch.testing.assert_close(inputs, expected.view(-1, 1, 1, 1).expand_as(inputs))
    assert len(tensors(data.test)[1]) == 40  # both classes, all of them
    assert_learnable(task, 7)


def test_files_are_read_once_per_process(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path)
    settings = make_experiment(task={"name": "mnist", "data_dir": str(folder)})
    first = load_task(settings).client_data(0)
    for file in folder.iterdir():
        file.unlink()
    assert torch.equal(tensors(load_task(settings).client_data(0).train)[0], tensors(first.train)[0])


def test_a_model_needs_no_data(empty_machine: Path) -> None:
    assert isinstance(load_task(make_experiment(task={"name": "mnist"})).model(), nn.Module)


def test_files_in_the_cache_are_found(empty_machine: Path) -> None:
    write_mnist(empty_machine / "MNIST" / "raw")
    assert_learnable(load_task(make_experiment(task={"name": "mnist"})), 0)


def test_files_of_the_system_package_are_found(empty_machine: Path) -> None:
    write_mnist(mnist._SOURCES["fashion-mnist"].system[0], packed=True)
    assert_learnable(load_task(make_experiment(task={"name": "fashion-mnist"})), 0)


DEBIAN = mnist._SOURCES["fashion-mnist"].system[0]


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_debian_package_is_read() -> None:
    train, test = BUILT_IN["fashion-mnist"](make_experiment(task={"name": "fashion-mnist"}))
    assert (len(train.labels), len(test.labels)) == (60_000, 10_000)
    assert train.stored.float().mean().item() == pytest.approx(train.mean, abs=0.02)
    assert train.stored.float().std().item() == pytest.approx(train.std, abs=0.02)


@pytest.mark.parametrize(
    ("name", "remedies"),
    [
        ("mnist", ["set task.data_dir", "pip install torchvision"]),
        (
            "fashion-mnist",
            ["Debian package dataset-fashion-mnist", "set task.data_dir", "pip install torchvision"],
        ),
    ],
)
def test_without_data_the_error_says_what_to_do(empty_machine: Path, name: str, remedies: list[str]) -> None:
    with pytest.raises(TaskError, match=f"task {name}: no data in .*{empty_machine}") as caught:
        load_task(make_experiment(task={"name": name})).client_data(0)
    for remedy in remedies:
        assert remedy in str(caught.value)


TORCHVISION = '''
"""Stands in for torchvision's download: the same call, the same folders, files from a local place."""
import os, shutil
from pathlib import Path

class MNIST:
    def __init__(self, root, train=True, transform=None, target_transform=None, download=False):
        print("Downloading")
        if "FAIL" in os.environ:
            raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")
        shutil.copytree(os.environ["ORIGIN"], Path(root) / type(self).__name__ / "raw")

class FashionMNIST(MNIST):
    pass

class EMNIST(MNIST):
    def __init__(self, root, split, **options):
        assert split == "letters"
        super().__init__(root, **options)
'''


@pytest.fixture
def torchvision(empty_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with torchvision and a network."""
    package = tmp_path / "packages" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "datasets.py").write_text(TORCHVISION)
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.delitem(sys.modules, "torchvision.datasets", raising=False)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("ORIGIN", str(write_mnist(tmp_path / "origin")))
    return empty_machine


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_torchvision_downloads_into_the_cache(
    torchvision: Path, name: str, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_learnable(load_task(make_experiment(task={"name": name})), 0)
    assert len(list((torchvision / folder / "raw").iterdir())) == 4
    assert [path.name for path in torchvision.iterdir()] == [folder]
    assert capsys.readouterr().out == ""


def test_torchvision_is_told_which_split_of_emnist(torchvision: Path, tmp_path: Path) -> None:
    write_emnist(tmp_path / "origin", "letters", 1 + np.arange(26).repeat(60))
    assert_learnable(load_task(make_experiment(task={"name": "emnist-letters"})), 0)
    assert (torchvision / "EMNIST" / "raw").is_dir()


def test_a_failed_download_is_one_clear_error_and_leaves_nothing(
    torchvision: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(TaskError, match=r"task mnist: the download into .* failed: Error downloading train-images"):
        load_task(make_experiment(task={"name": "mnist"})).client_data(0)
    assert list(torchvision.iterdir()) == []


def test_wrong_idx_folders_are_refused_by_name(tmp_path: Path) -> None:
    def reading(folder: Path) -> Any:
        return load_task(make_experiment(task={"name": "mnist", "data_dir": str(folder)})).client_data(0)

    labels = np.zeros(1000, dtype=np.uint8)
    with pytest.raises(
        TaskError,
        match=r"nowhere: there is no train-images-idx3-ubyte or train-images-idx3-ubyte\.gz; it comes with http",
    ):
        reading(tmp_path / "nowhere")
    with pytest.raises(TaskError, match="images are 27×27, expected 28×28"):
        reading(write_mnist(tmp_path / "small", side=27))
    write_idx(write_mnist(tmp_path / "fewer"), "train-labels-idx1-ubyte", labels[:-1])
    with pytest.raises(TaskError, match=r"train-images-idx3-ubyte holds 1000 images, .* 999 labels"):
        reading(tmp_path / "fewer")
    write_idx(write_mnist(tmp_path / "eleven"), "train-labels-idx1-ubyte", labels + 10)
    with pytest.raises(TaskError, match="train-labels-idx1-ubyte: holds the label 10, expected 0 to 9"):
        reading(tmp_path / "eleven")


# ---- EMNIST


def write_emnist(folder: Path, split: str, labels: np.ndarray) -> Path:
    """Images as EMNIST stores them: column by column. The upright image has one line, its third row from above."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.zeros((len(labels), 28, 28), dtype=np.uint8)
    images[:, :, 2] = 255
    for part in ("train", "test"):
        write_idx(folder, f"emnist-{split}-{part}-images-idx3-ubyte", images, packed=True)
        write_idx(folder, f"emnist-{split}-{part}-labels-idx1-ubyte", labels.astype(np.uint8), packed=True)
    return folder


@pytest.mark.parametrize(("split", "classes", "first"), [("balanced", 47, 0), ("letters", 26, 1), ("byclass", 62, 0)])
def test_emnist_is_upright_and_counted_from_zero(split: str, classes: int, first: int, tmp_path: Path) -> None:
    name = f"emnist-{split}"
    folder = write_emnist(tmp_path, split, first + np.arange(classes).repeat(30))
    task = load_task(make_experiment(task={"name": name, "data_dir": str(folder), "model": "cnn"}))
    train, _ = BUILT_IN[name](make_experiment(task={"name": name, "data_dir": str(folder)}))
    assert sorted(train.labels.unique().tolist()) == list(range(classes))
    inputs, _ = tensors(task.client_data(0).train)
    line, paper = inputs[:, 0, 2, :], inputs[:, 0, 3:, :]
    assert line.min() == line.max() > 0 > paper.max() == paper.min()
    assert_learnable(task, 0)


def test_emnist_letters_start_at_one(tmp_path: Path) -> None:
    folder = write_emnist(tmp_path, "letters", np.arange(26).repeat(30))
    with pytest.raises(TaskError, match=r"labels-idx1-ubyte.*: holds the label 0, expected 1 to 26"):
        BUILT_IN["emnist-letters"](make_experiment(task={"name": "emnist-letters", "data_dir": str(folder)}))
