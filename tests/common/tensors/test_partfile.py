"""Files read part by part: the same values as those of the file mapped, the same refusals, and nothing held."""

from pathlib import Path

import pytest
import torch

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.file import open_file, save
from lotteryfl.common.tensors.partfile import PartFile

TENSORS = {
    "double": torch.arange(6, dtype=torch.float64).view(2, 3),
    "half": torch.arange(9).to(torch.bfloat16),
    "flags": torch.tensor([True, False, True]),
    "none": torch.empty(0, 4),
    "one": torch.tensor(7),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(tmp_path / "file", TENSORS)
    return tmp_path / "file"


@pytest.mark.parametrize("ahead", [0, 5, 1000])
def test_every_part_is_that_of_the_whole(path: Path, ahead: int) -> None:
    file = PartFile(path, ahead=ahead)
    assert list(file) == list(open_file(path))
    assert "double" in file
    assert "other" not in file
    for name, tensor in TENSORS.items():
        flat = tensor.reshape(-1)
        assert file.numel(name) == flat.numel()
        assert torch.equal(file.read(name), flat)
        for first in range(flat.numel() + 1):
            for last in range(first, flat.numel() + 1):
                part = file.read(name, first, last)
                assert part.dtype == tensor.dtype
                assert torch.equal(part, flat[first:last])


def test_between_reads_it_is_neither_open_nor_mapped(path: Path) -> None:
    before = {file.name for file in Path("/proc/self/fd").iterdir()}
    files = [PartFile(path) for _ in range(50)]
    read = [file.read("double") for file in files]
    assert {file.name for file in Path("/proc/self/fd").iterdir()} == before
    assert str(path) not in Path("/proc/self/maps").read_text()
    assert len(read) == 50


def test_what_was_read_ahead_is_not_read_again(path: Path) -> None:
    file = PartFile(path, ahead=1000)
    first = file.read("double", 0, 1)
    path.unlink()
    assert torch.equal(torch.cat([first, file.read("double", 1)]), TENSORS["double"].reshape(-1))
    assert file.read("one").item() == 7


def test_what_is_no_such_file_is_refused(path: Path) -> None:
    content = path.read_bytes()
    (path.with_name("short")).write_bytes(content[:-1])
    with pytest.raises(PayloadError, match=r"payload: .* bytes, but the header describes"):
        PartFile(path.with_name("short"), "payload")
    file = PartFile(path)
    path.write_bytes(content[:-3])
    with pytest.raises(PayloadError, match="'flags': 0 bytes are there, expected 3"):
        file.read("flags")
    path.write_bytes(content[:-1] + b"\2")
    with pytest.raises(PayloadError, match="byte 2, expected 0 or 1"):
        PartFile(path).read("flags")


@pytest.mark.parametrize(("first", "last"), [(2, 7), (-1, 3), (4, 3), (7, 7)])
def test_elements_that_a_tensor_does_not_have_are_refused(path: Path, first: int, last: int) -> None:
    with pytest.raises(PayloadError, match=rf"'double': elements {first} to {last} of 6 are asked for$"):
        PartFile(path).read("double", first, last)
