import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lotteryfl.common.errors import TaskError
from lotteryfl.common.tasks.datasets.idx import MAX_BYTES, read_idx


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
GOOD = idx_bytes(IMAGES)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.fixture(params=["images", "images.gz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_golden_bytes(path: Path) -> None:
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255])
    array = read_idx(write(path, content), 2)
    np.testing.assert_array_equal(array, [[1, 2, 3], [4, 5, 255]])
    assert array.dtype == np.uint8


@given(array=arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0)), packed=st.booleans())
def test_round_trip(array: np.ndarray, packed: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if packed else "a")
    np.testing.assert_array_equal(read_idx(write(path, idx_bytes(array)), array.ndim), array)


def test_the_array_is_writable_so_that_torch_takes_it(path: Path) -> None:
    assert read_idx(write(path, GOOD), 3).flags.writeable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with , expected 00 00 08 03"),
        (b"\0\0\x08", "starts with 00 00 08, expected"),
        (b"\x80\x02cposix", "starts with 80 02 63 70, expected 00 00 08 03"),
        (b"\0\0\x0d\x03" + GOOD[4:], "starts with 00 00 0d 03, expected 00 00 08 03"),  # float32
        (idx_bytes(IMAGES.reshape(5, 12)), "starts with 00 00 08 02, expected 00 00 08 03"),
        (GOOD[:4], "ends within its header"),
        (GOOD[:15], "ends within its header"),
        (GOOD[:-1], "holds 59 bytes of data, expected 60"),
        (GOOD + b"\0", "holds more than 60 bytes of data, expected 60"),
    ],
    ids=range(9),
)
def test_malformed_files_are_refused_by_name(path: Path, content: bytes, message: str) -> None:
    write(path, content)
    with pytest.raises(TaskError) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_an_array_of_no_bytes_that_numpy_cannot_make_is_refused(path: Path) -> None:
    write(path, struct.pack(">HBB3I", 0, 8, 3, 0, 2**32 - 1, 2**32 - 1))
    with pytest.raises(TaskError, match=r"its header claims an array of shape \[0, 4294967295, 4294967295\]"):
        read_idx(path, 3)


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (60_000, 28, 28), (MAX_BYTES + 1, 1, 1)])
def test_a_header_that_claims_too_much_is_refused_before_anything_is_read(
    path: Path, shape: tuple[int, int, int]
) -> None:
    write(path, struct.pack(">HBB3I", 0, 8, 3, *shape) + bytes(100))
    with pytest.raises(TaskError, match=r"its header claims \d+ bytes of data, expected \d+ at most"):
        read_idx(path, 3)


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    packed = gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (50, 9, 9)).astype(np.uint8)))
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF
    for content in (packed[:-20], bytes(flipped), b"no gzip at all"):
        path.write_bytes(content)
        with pytest.raises(TaskError, match=r"images\.gz: damaged gzip file"):
            read_idx(path, 3)


def test_a_missing_file(path: Path) -> None:
    with pytest.raises(TaskError, match=f"{path}: No such file"):
        read_idx(path, 3)
