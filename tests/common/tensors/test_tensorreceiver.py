"""Receiving straight into tensors: what `parse` makes of the whole file, without the file."""

import re
import zlib
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.file import parse
from lotteryfl.common.tensors.layout import Entry
from lotteryfl.common.tensors.stream import Trailer
from lotteryfl.common.tensors.tensorreceiver import TensorReceiver, new_tensor
from tests.support.tensorfiles import EVERY_DTYPE, assert_same, encode

DATA = encode(EVERY_DTYPE)


def receive(data: bytes, cuts: list[int], size: int | None = None) -> dict[str, torch.Tensor]:
    with TensorReceiver(len(data) if size is None else size, 1 << 20, "t") as receiver:
        for begin, end in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
            receiver.write(data[begin:end])
        return receiver.finish(Trailer(len(data), zlib.crc32(data)))


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=8))
def test_any_cutting_into_chunks_arrives(cuts: list[int]) -> None:
    assert_same(receive(DATA, cuts), EVERY_DTYPE)


@settings(deadline=None)
@given(
    position=st.integers(0, len(DATA) - 1),
    byte=st.integers(0, 255),
    end=st.integers(0, len(DATA)) | st.just(len(DATA)),
    cuts=st.lists(st.integers(0, len(DATA)), max_size=4),
)
def test_damaged_files_are_refused_as_parse_refuses_them(position: int, byte: int, end: int, cuts: list[int]) -> None:
    damaged = bytearray(DATA)
    damaged[position] = byte
    data = bytes(damaged[:end])
    try:
        expected = parse(data, "t")
    except PayloadError as error:
        with pytest.raises(PayloadError, match=f"^{re.escape(str(error))}$"):
            receive(data, cuts)
    else:
        assert_same(receive(data, cuts), expected)


def test_entries_land_where_they_are_placed() -> None:
    mine = torch.zeros(4)
    data = encode({"mine": torch.arange(4.0), "other": torch.ones(2)})

    def place(entry: Entry) -> torch.Tensor:
        return mine if entry.name == "mine" else new_tensor(entry)

    receiver = TensorReceiver(len(data), len(data), "t", place)
    receiver.write(data)
    received = receiver.finish(Trailer(len(data), zlib.crc32(data)))
    assert received["mine"] is mine
    assert mine.tolist() == [0, 1, 2, 3]
    assert received["other"].tolist() == [1, 1]


def test_nothing_is_placed_before_the_header_has_been_checked() -> None:
    placed: list[Entry] = []

    def place(entry: Entry) -> torch.Tensor:
        placed.append(entry)
        return new_tensor(entry)

    data = encode({"t": torch.ones(2)})
    receiver = TensorReceiver(len(data) + 4, 1 << 20, "t", place)  # four bytes that no tensor accounts for
    with pytest.raises(PayloadError, match="the header describes"):
        receiver.write(data)
    assert placed == []
