"""Files: the safetensors library in both directions, whole or not at all."""

import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lotteryfl.common.disk.atomicfile import AtomicFile
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.file import open_file, save, save_stream
from lotteryfl.common.tensors.receiver import FileReceiver
from lotteryfl.common.tensors.stream import Trailer
from tests.support.tensorfiles import EVERY_DTYPE, Spec, assert_same, encode, names


def test_save_writes_the_bytes_of_the_stream(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    digest = save(path, EVERY_DTYPE)
    assert path.read_bytes() == encode(EVERY_DTYPE)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert_same(safetensors.torch.load_file(path), EVERY_DTYPE)
    assert names(tmp_path) == ["model.safetensors"]


def test_save_stream_takes_tensors_in_any_order_one_at_a_time(tmp_path: Path) -> None:
    specs = [Spec(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in EVERY_DTYPE.items()]
    pairs = iter(reversed(EVERY_DTYPE.items()))
    assert save_stream(tmp_path / "a", specs, pairs) == save(tmp_path / "b", EVERY_DTYPE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("given_tensors", "message"),
    [
        ([("a", torch.ones(2))], "b: not given"),
        ([("a", torch.ones(2)), ("a", torch.ones(2))], "a: given twice"),
        ([("c", torch.ones(2))], "c: given twice, or not among the tensors to save"),
        ([("a", torch.ones(3))], r"a: torch\.float32 of shape \[3\], expected torch\.float32 of shape \[2\]"),
        ([("a", torch.ones(2).half())], r"a: torch\.float16 of shape \[2\], expected torch\.float32"),
    ],
)
def test_save_stream_refuses_other_tensors_and_leaves_the_old_file(
    tmp_path: Path, given_tensors: list[tuple[str, Tensor]], message: str
) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=message):
        save_stream(path, [Spec("a", torch.float32, (2,)), Spec("b", torch.float32, ())], given_tensors)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("backwards", [False, True])
def test_the_digest_is_that_of_the_file_in_whatever_order_it_was_written(tmp_path: Path, backwards: bool) -> None:
    tensors = {name: torch.randn(size) for name, size in (("a", 1 << 19), ("b", 3), ("c", 1 << 18))}
    pairs = list(tensors.items())[:: -1 if backwards else 1]
    digest = save_stream(tmp_path / "a", [Spec(n, t.dtype, tuple(t.shape)) for n, t in tensors.items()], pairs)
    assert digest == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


def test_a_whole_upload_can_be_looked_at_before_it_has_its_name(tmp_path: Path) -> None:
    tensors = {"t": torch.randn(1 << 19)}
    data, seen = encode(tensors), []
    receiver = FileReceiver(tmp_path / "result", len(data), len(data), "result")

    def look(part: AtomicFile) -> None:
        assert not part.path.exists()
        seen.append(open_file(part.part))

    receiver.look = look
    receiver.write(data)
    receiver.finish(Trailer(len(data), zlib.crc32(data)))
    assert_same(seen[0], tensors)
    assert_same(open_file(tmp_path / "result"), tensors)


def test_a_failing_iterator_leaves_the_old_file(tmp_path: Path) -> None:
    def tensors() -> Iterator[tuple[str, Tensor]]:
        yield "a", torch.ones(2)
        raise KeyboardInterrupt

    path = tmp_path / "model"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        save_stream(path, [Spec("a", torch.float32, (2,))], tensors())
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("how", ["save", "receive"])
def test_file_and_folder_are_on_disk_before_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    path = tmp_path / "model"
    data = encode(EVERY_DTYPE)
    synced: list[tuple[str, bool, int]] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        kind = "folder" if target == tmp_path else "file"
        synced.append((kind, path.exists(), os.fstat(descriptor).st_size if kind == "file" else 0))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    if how == "save":
        save(path, EVERY_DTYPE)
    else:
        receiver = FileReceiver(path, len(data), len(data), "result")
        receiver.write(data)
        receiver.finish(Trailer(len(data), zlib.crc32(data)))
    assert synced == [("file", False, len(data)), ("folder", True, 0)]


def test_an_open_file_outlives_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save(path, EVERY_DTYPE)
    tensors = open_file(path)
    path.unlink()
    assert_same(tensors, EVERY_DTYPE)


def test_mapped_files_hold_no_file_descriptors(tmp_path: Path) -> None:
    save(tmp_path / "model", EVERY_DTYPE)
    before = len(names(Path("/proc/self/fd")))
    held = [open_file(tmp_path / "model") for _ in range(3)]
    assert len(names(Path("/proc/self/fd"))) == before
    assert_same(held[0], EVERY_DTYPE)


def test_writing_to_a_mapped_tensor_does_not_reach_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save(path, EVERY_DTYPE)
    open_file(path)["f32"].zero_()
    assert path.read_bytes() == encode(EVERY_DTYPE)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    with pytest.raises(PayloadError, match="model: the file is empty"):
        open_file(tmp_path / "model")
