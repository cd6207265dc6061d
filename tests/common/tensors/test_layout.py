"""One test for each way that a file is malformed, and fuzzing: nothing but PayloadError comes of it."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from cachetools import LRUCache
from hypothesis import given, settings
from hypothesis import strategies as st

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors import layout
from lotteryfl.common.tensors.dtypes import CODES, DTYPES
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.tensors.layout import MAX_HEADER_BYTES, lay_out
from tests.support.tensorfiles import EVERY_DTYPE, assert_same, encode, entry, raw_file

F32 = entry("F32", [2], 0, 8)
MALFORMED: dict[str, tuple[bytes, str]] = {
    "no bytes": (b"", "t: 0 bytes are too few"),
    "half a length": (b"1234567", "t: 7 bytes are too few"),
    "header above the limit": (
        struct.pack("<Q", MAX_HEADER_BYTES + 1),
        f"t: header of {MAX_HEADER_BYTES + 1} bytes, at most {MAX_HEADER_BYTES}",
    ),
    "header of 2^64 - 1": (b"\xff" * 8, f"header of {2**64 - 1} bytes"),
    "header beyond the end": (struct.pack("<Q", 3) + b"{}", "header of 3 bytes in a file of 10"),
    "not UTF-8": (raw_file(b'{"\xff":1}'), "the header is not valid JSON: 'utf-8' codec"),
    "not JSON": (raw_file(b"{"), "the header is not valid JSON: Expecting"),
    "two JSON values": (raw_file(b"{}{}"), "the header is not valid JSON: Extra data"),
    "no JSON": (raw_file(b""), "the header is not valid JSON"),
    "deeply nested": (raw_file(b"[" * 100_000), "the header is not valid JSON"),
    "a number too long": (raw_file(b'{"w":' + b"9" * 5000 + b"}"), "the header is not valid JSON: Exceeds"),
    "half a surrogate pair": (
        raw_file(b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
        "the header is not valid JSON: 'utf-8' codec can't encode",
    ),
    "a list": (raw_file([1]), r"the header is \[1\], expected a JSON object"),
    "same name twice": (
        raw_file(b'{"w":%s,"w":%s}' % ((json.dumps(F32).encode(),) * 2), bytes(8)),
        "the header is not valid JSON: duplicate name 'w'",
    ),
    "same field twice": (
        raw_file(b'{"w":{"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}}'),
        "duplicate name 'dtype'",
    ),
    "metadata not an object": (raw_file({"__metadata__": 1}), "__metadata__ is 1, expected strings by name"),
    "metadata not strings": (raw_file({"__metadata__": {"a": 1}}), "__metadata__ is {'a': 1}"),
    "entry not an object": (raw_file({"w": 1}), "t: 'w': 1, expected dtype, shape and data_offsets"),
    "field missing": (
        raw_file({"w": {"dtype": "F32", "shape": [0]}}),
        "expected dtype, shape and data_offsets",
    ),
    "field unknown": (raw_file({"w": {**F32, "x": 1}}, bytes(8)), "expected dtype, shape and data_offsets"),
    "dtype unknown": (
        raw_file({"w": entry("F8", [2], 0, 8)}, bytes(8)),
        "t: 'w': dtype is 'F8', expected one of F64",
    ),
    "dtype not a string": (raw_file({"w": entry([], [2], 0, 8)}, bytes(8)), r"'w': dtype is \[\]"),
    "shape not a list": (
        raw_file({"w": entry("F32", 2, 0, 8)}, bytes(8)),
        "'w': shape is 2, expected up to 64",
    ),
    "size -0": (raw_file(b'{"w":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}'), "not valid JSON: number -0"),
    "space before the header": (
        raw_file(b" {}"),
        r"the header is \{\}, expected a JSON object, from its first byte on",
    ),
    "size of thousands of digits": (
        raw_file(b'{"w":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,0]}}'),
        "not valid JSON: Exceeds the limit",
    ),
    "size negative": (raw_file({"w": entry("F32", [-1, -2], 0, 8)}, bytes(8)), r"'w': shape is \[-1, -2\]"),
    "size not whole": (raw_file({"w": entry("F32", [2.0], 0, 8)}, bytes(8)), r"'w': shape is \[2\.0\]"),
    "size true": (raw_file({"w": entry("F32", [True], 0, 4)}, bytes(4)), r"'w': shape is \[True\]"),
    "65 dimensions": (
        raw_file({"w": entry("F32", [1] * 65, 0, 4)}, bytes(4)),
        "'w': shape is .* up to 64 sizes",
    ),
    "size overflows": (
        raw_file({"w": entry("U8", [2**32, 2**32], 0, 0)}),
        r"'w': shape is \[4294967296, 4294967296\], more than memory",
    ),
    "strides overflow": (raw_file({"w": entry("U8", [0, 2**40, 2**40], 0, 0)}), "more than memory can hold"),
    "offsets not a list": (raw_file({"w": {**F32, "data_offsets": 1}}), "'w': data_offsets are 1"),
    "three offsets": (
        raw_file({"w": {**F32, "data_offsets": [0, 4, 8]}}, bytes(8)),
        "expected begin and end",
    ),
    "offset negative": (raw_file({"w": entry("F32", [2], -8, 0)}, bytes(8)), r"data_offsets are \[-8, 0\]"),
    "offsets reversed": (
        raw_file({"w": entry("F32", [2], 8, 0)}, bytes(8)),
        r"'w': data_offsets are \[8, 0\], but F32 of shape \[2\] is 8 bytes",
    ),
    "too few bytes for the shape": (
        raw_file({"w": entry("F32", [3], 0, 8)}, bytes(8)),
        r"'w': data_offsets are \[0, 8\], but F32 of shape \[3\] is 12 bytes",
    ),
    "hole at the start": (
        raw_file({"w": entry("F32", [2], 4, 12)}, bytes(12)),
        "'w': data begin at 4, expected 0",
    ),
    "hole": (
        raw_file({"v": F32, "w": entry("F32", [1], 12, 16)}, bytes(16)),
        "'w': data begin at 12, expected 8: no holes, no overlaps",
    ),
    "overlap": (
        raw_file({"v": F32, "w": entry("F32", [1], 4, 8)}, bytes(8)),
        "'w': data begin at 4, expected 8",
    ),
    "two names for one place": (raw_file({"v": F32, "w": F32}, bytes(8)), "'w': data begin at 0, expected 8"),
    "byte after the end": (raw_file({"w": F32}, bytes(9)), r"t: \d+ bytes, but the header describes \d+"),
    "byte missing at the end": (
        raw_file({"w": F32}, bytes(7)),
        r"t: \d+ bytes, but the header describes \d+",
    ),
    "data without tensors": (raw_file({}, bytes(1)), "t: 17 bytes, but the header describes 16"),
    "misaligned by the header": (
        raw_file(
            json.dumps({"w": F32}).encode() + b" " * (1 + -len(json.dumps({"w": F32})) % 8),
            bytes(8),
            pad=False,
        ),
        "'w': data begin at byte .* of the file, expected a multiple of 4",
    ),
    "misaligned by another tensor": (
        raw_file({"v": entry("U8", [1], 0, 1), "w": entry("F32", [1], 1, 5)}, bytes(5)),
        "'w': data begin at byte .* of the file, expected a multiple of 4",
    ),
    "a bool that is 2": (
        raw_file({"w": entry("BOOL", [3], 0, 3)}, bytes([0, 1, 2])),
        "'w': byte 2, expected 0 or 1 in a BOOL tensor",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_bytes_are_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    data, message = MALFORMED[case]
    with pytest.raises(PayloadError, match=message) as caught:
        parse(data, "t")
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)
    if data:
        (tmp_path / "file").write_bytes(data)
        with pytest.raises(PayloadError):
            open_file(tmp_path / "file")


def test_errors_do_not_repeat_what_a_sender_made_long() -> None:
    with pytest.raises(PayloadError) as caught:
        parse(raw_file({"n" * 100_000 + "\n": {"x" * 100_000: list(range(100_000))}}), "t")
    assert len(str(caught.value)) < 1000


def test_many_duplicates_are_refused_fast() -> None:
    fields = ",".join(f'"{i}":0' for i in range(100_000))
    with pytest.raises(PayloadError, match="duplicate name '0'"):
        parse(raw_file(f'{{{fields},"0":0}}'.encode()), "t")


def test_the_order_in_the_header_does_not_matter() -> None:
    data = raw_file({"w": entry("F32", [1], 8, 12), "v": F32}, struct.pack("<3f", 1, 2, 3))
    assert {name: t.tolist() for name, t in parse(data, "t").items()} == {"v": [1, 2], "w": [3]}


def test_views_share_memory_with_the_buffer_and_keep_it_alive() -> None:
    buffer = bytearray(encode({"t": torch.zeros(2)}))
    tensor = parse(buffer, "t")["t"]
    buffer[-4:] = struct.pack("<f", 9)
    assert tensor.tolist() == [0, 9]
    with pytest.raises(BufferError):
        buffer.clear()  # its memory cannot go away under the view


def test_a_buffer_at_an_odd_address_is_copied() -> None:
    data = encode(EVERY_DTYPE)
    tensors = parse(memoryview(b"x" + data)[1:], "t")
    assert_same(tensors, EVERY_DTYPE)
    assert all(tensor.data_ptr() % tensor.itemsize == 0 for tensor in tensors.values())


def parses_or_refuses(data: bytes) -> None:
    try:
        tensors = parse(data, "fuzz")
    except PayloadError:
        return
    for tensor in tensors.values():
        tensor.double().sum()  # reads every element
    assert_same(safetensors.torch.load(data), tensors)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    parses_or_refuses(data)


@settings(deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=40))
def test_random_headers(header: bytes, data: bytes) -> None:
    parses_or_refuses(raw_file(header, data))


SMALL = {"w": torch.tensor([[1.0, 2.0]]), "n": torch.tensor(3), "m": torch.tensor([True, False, True])}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(encode(SMALL)) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutated_bytes(mutations: list[tuple[int, int]]) -> None:
    data = bytearray(encode(SMALL))
    for position, value in mutations:
        data[position] = value
    parses_or_refuses(bytes(data))


@settings(deadline=None)
@given(st.integers(0, len(encode(SMALL)) - 1))
def test_every_truncation_is_refused(size: int) -> None:
    with pytest.raises(PayloadError):
        parse(encode(SMALL)[:size], "t")


sizes = st.one_of(st.integers(-1, 4), st.sampled_from([2**31, 2**62, 2**64]))
fields = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPES, "F8_E4M3", "f32", None]),
        "shape": st.lists(sizes, max_size=3),
        "data_offsets": st.lists(st.integers(0, 24), min_size=1, max_size=3),
    }
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), fields, max_size=3), st.integers(0, 24))
def test_headers_that_are_almost_right(header: dict[str, Any], size: int) -> None:
    parses_or_refuses(raw_file(header, bytes(size)))


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from([*CODES]), st.lists(st.integers(0, 5), max_size=3)),
        max_size=8,
    ),
    st.integers(0, 2**32 - 1),
)
def test_encode_and_parse_are_inverse(specs: dict[str, tuple[torch.dtype, list[int]]], seed: int) -> None:
    random = np.random.default_rng(seed)
    tensors = {
        name: torch.from_numpy(random.integers(-9, 9, shape)).to(dtype) for name, (dtype, shape) in specs.items()
    }
    data = encode(tensors)
    assert_same(parse(data, "t"), tensors)
    assert_same(safetensors.torch.load(data), tensors)


def test_what_is_known_of_heads_is_bounded_by_their_bytes_and_goes_by_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_HEADS", LRUCache(1000, getsizeof=layout._HEADS.getsizeof))
    read: list[bytes] = []
    original = layout._read_table

    def counting(text: bytes, what: str) -> dict[str, Any]:
        read.append(text)
        return original(text, what)

    monkeypatch.setattr(layout, "_read_table", counting)
    heads = [lay_out([(f"tensor {number}", torch.float32, (number,))])[0] for number in range(20)]

    def entries(number: int) -> list[layout.Entry]:
        return layout.read_layout(bytearray(heads[number]), len(heads[number]) + 4 * number, "file")

    first = entries(3)
    first.clear()  # the caller's own
    assert [entry.name for entry in entries(3)] == ["tensor 3"]
    assert len(read) == 1
    with pytest.raises(PayloadError, match=r"file: .* bytes, but the header describes"):
        layout.read_layout(heads[3], len(heads[3]), "file")  # of another size
    for number in range(4, 20):
        entries(number)
    before = len(read)
    entries(19)
    assert len(read) == before
    entries(3)  # long forgotten
    assert len(read) == before + 1
