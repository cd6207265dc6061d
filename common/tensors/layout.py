"""The head of a safetensors file, written and read: which tensors, of which dtype and shape, lie where.

A file is the length of the header (8 bytes, little-endian), a JSON header {name: {dtype, shape, data_offsets}},
and the tensors' data. As in the safetensors library's own files the header is padded with spaces to a multiple
of 8 bytes, and the data lie in descending order of item size (within one size: in the order given): all
aligned, without holes. What is read must be so too.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from operator import attrgetter
from threading import Lock
from typing import Any, NamedTuple

import torch
from cachetools import LRUCache

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.dtypes import CODES, DTYPES
from lotteryfl.common.text import quoted

MAX_HEADER_BYTES = 4 << 20
"""Longest header written or read: some 30,000 tensors."""

MAX_DIMENSIONS = 64
"""Most dimensions of a tensor that is read: as many as numpy has."""

ALIGNMENT = 8
LENGTH_BYTES = 8
"""Bytes of the header's length, at the start of every file."""

_MAX_TENSOR_BYTES = 2**63 - 1  # torch counts in int64


class Entry(NamedTuple):
    """One tensor and its place."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    """Bytes from the start of the data; so is `end`."""
    end: int


def lay_out(
    specs: Iterable[tuple[str, torch.dtype, Sequence[int]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, list[Entry]]:
    """Return the file's bytes before the data, and the tensors in the order of their data.

    Args:
        specs: name, dtype and shape of every tensor.
        metadata: what the header says of the whole, if anything.
    """
    entries: list[Entry] = []
    end = 0
    for name, dtype, shape in sorted(specs, key=lambda spec: -spec[1].itemsize):
        if dtype not in CODES:
            raise TypeError(f"{name}: {dtype} cannot be stored, expected one of {', '.join(DTYPES)}")
        if name == "__metadata__":
            raise ValueError("__metadata__: this name is reserved by the file format")
        begin, end = end, end + prod(shape) * dtype.itemsize
        entries.append(Entry(name, dtype, tuple(shape), begin, end))
    table = {e.name: {"dtype": CODES[e.dtype], "shape": e.shape, "data_offsets": (e.begin, e.end)} for e in entries}
    if len(table) < len(entries):
        raise ValueError("two tensors have the same name")
    header = {"__metadata__": metadata, **table} if metadata else table
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"header of {len(text)} bytes for {len(table)} tensors, at most {MAX_HEADER_BYTES}")
    return len(text).to_bytes(LENGTH_BYTES, "little") + text, entries


def data_start(head: bytes | bytearray | memoryview, size: int, what: str) -> int:
    """Return where the data of a file of `size` bytes start, from its first `LENGTH_BYTES`.

    Raises:
        PayloadError: the header is longer than is read, or than the file.
    """
    if size < LENGTH_BYTES:
        raise PayloadError(f"{what}: {size} bytes are too few for a safetensors file")
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise PayloadError(f"{what}: header of {length} bytes, at most {MAX_HEADER_BYTES} are read")
    if LENGTH_BYTES + length > size:
        raise PayloadError(f"{what}: header of {length} bytes in a file of {size}")
    return LENGTH_BYTES + length


def read_layout(head: bytes | bytearray | memoryview, size: int, what: str) -> list[Entry]:
    """Return the tensors of a file in the order of their data; all checked.

    Args:
        head: the file's bytes up to its data, see `data_start`.
        size: bytes of the whole file.
        what: names the file in errors.

    Raises:
        PayloadError: the bytes are not strictly a safetensors file of known dtypes, without holes, overlaps,
            duplicate names or misaligned tensors.
    """
    key = bytes(head), size
    with _HEADS_LOCK:
        known = _HEADS.get(key)
    if known is not None:
        return list(known.entries)
    table = _read_table(key[0][LENGTH_BYTES:], what)
    entries = [_read_entry(name, fields, what) for name, fields in table.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    _check_places(entries, len(head), size, what)
    if len(head) <= _HEADS.maxsize:
        with _HEADS_LOCK:
            _HEADS[key] = _Known(len(head), tuple(entries))
    return entries


class _Known(NamedTuple):
    """What a head came to, which bounds it: entries take some times as many bytes."""

    nbytes: int
    entries: tuple[Entry, ...]


_HEADS: LRUCache[tuple[bytes, int], _Known] = LRUCache(1 << 20, getsizeof=attrgetter("nbytes"))
"""Of the files that were read last: a round's have few, and each is read again and again."""
_HEADS_LOCK = Lock()


def _read_table(text: bytes, what: str) -> dict[str, Any]:
    """Return the header's entries by name, still unchecked."""
    try:
        table = json.loads(text.decode(), object_pairs_hook=_unique, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{what}: the header is not valid JSON: {error}") from error
    if not isinstance(table, dict) or not text.startswith(b"{"):
        raise PayloadError(f"{what}: the header is {quoted(table)}, expected a JSON object, from its first byte on")
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise PayloadError(f"{what}: __metadata__ is {quoted(metadata)}, expected strings by name")
    return table


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"duplicate name {quoted(name)}")
        name.encode()  # fails for half a surrogate pair, which JSON can write and UTF-8 cannot
        found[name] = value
    return found


def _whole(digits: str) -> int:
    if digits == "-0":  # to other readers of such files it is no size
        raise ValueError("number -0, expected 0")
    return int(digits)


def _read_entry(name: str, fields: Any, what: str) -> Entry:
    where = f"{what}: {quoted(name)}"
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise PayloadError(f"{where}: {quoted(fields)}, expected dtype, shape and data_offsets")
    code, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise PayloadError(f"{where}: dtype is {quoted(code)}, expected one of {', '.join(DTYPES)}")
    if not _is_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise PayloadError(f"{where}: shape is {quoted(shape)}, expected up to {MAX_DIMENSIONS} sizes")
    if not _is_sizes(offsets) or len(offsets) != 2:
        raise PayloadError(f"{where}: data_offsets are {quoted(offsets)}, expected begin and end")
    dtype = DTYPES[code]
    if prod(max(size, 1) for size in shape) * dtype.itemsize > _MAX_TENSOR_BYTES:
        raise PayloadError(f"{where}: shape is {quoted(shape)}, more than memory can hold")
    begin, end = offsets
    needed = prod(shape) * dtype.itemsize
    if end - begin != needed:
        raise PayloadError(
            f"{where}: data_offsets are {offsets}, but {code} of shape {quoted(shape)} is {needed} bytes"
        )
    return Entry(name, dtype, tuple(shape), begin, end)


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_places(entries: list[Entry], start: int, size: int, what: str) -> None:
    """Refuse data that do not follow each other from `start` to the file's end, each aligned."""
    end = 0
    for entry in entries:
        where = f"{what}: {quoted(entry.name)}"
        if entry.begin != end:
            raise PayloadError(f"{where}: data begin at {entry.begin}, expected {end}: no holes, no overlaps")
        if (start + entry.begin) % entry.dtype.itemsize:
            raise PayloadError(
                f"{where}: data begin at byte {start + entry.begin} of the file, "
                f"expected a multiple of {entry.dtype.itemsize}"
            )
        end = entry.end
    if start + end != size:
        raise PayloadError(f"{what}: {size} bytes, but the header describes {start + end}")
