"""Mutations that know the format: what comes out is mostly valid, and wrong in one place."""

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from lotteryfl.common.tensors.dtypes import DTYPES

Mutate = Callable[[bytes, Random], bytes]

NUMBERS = (0, 1, 2, 7, 8, 9, 127, 255, 256, 2**16, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, -1)
FLOATS = (
    b"\0\0\xc0\x7f",
    b"\0\0\x80\x7f",
    b"\0\0\x80\xff",
    b"\xff\xff\x7f\x7f",
    b"\0\0\0\x80",
    b"\x80",
    b"\x81",
    b"\2",
)
JUNK: tuple[Any, ...] = (
    None,
    True,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "F32",
    "kept/",
    "\0",
    "\udc80",
    [],
    {},
    [[]],
    "x" * 300,
)
PREFIXES = ("kept/", "dense/", "mask/", "scale/", "")


# -- messages, each after its length


def split(data: bytes) -> list[bytes]:
    """Take apart what `join` put together; of any other bytes, the last message is short."""
    messages, position = [], 0
    while position + 2 <= len(data):
        end = position + 2 + int.from_bytes(data[position : position + 2], "big")
        messages.append(data[position + 2 : end])
        position = end
    return messages


def join(messages: list[bytes]) -> bytes:
    return b"".join(struct.pack(">H", len(message)) + message for message in messages)


def mutate_messages(messages: list[bytes], random: Random, mutate: Mutate) -> list[bytes]:
    """Lose, repeat, exchange or change one of the messages."""
    messages = list(messages) or [b""]
    at, to = random.randrange(len(messages)), random.randrange(len(messages))
    match random.randrange(5):
        case 0:
            del messages[at]
        case 1:
            messages.insert(to, messages[at])
        case 2:
            messages[at], messages[to] = messages[to], messages[at]
        case _:
            messages[at] = mutate(messages[at], random)
    return messages


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Change, take out or put in some bytes."""
    at = random.randrange(len(data) + 1)
    new = random.choice((*FLOATS, b"\0", b"\xff", b"\xff" * 8, random.randbytes(random.randint(1, 8))))
    match random.randrange(4):
        case 0:
            return data[:at] + new + data[at:]
        case 1:
            return data[:at] + data[at + random.randint(1, 16) :]
        case _:
            return data[:at] + new + data[at + len(new) :]


# -- JSON


def mutate_json(data: bytes, random: Random) -> bytes:
    """Replace, lose or repeat a value anywhere in a JSON text."""
    try:
        tree = [json.loads(data)]
    except (ValueError, RecursionError):
        return mutate_bytes(data, random)
    spots = list(_spots(tree))
    holder, key = random.choice(spots)
    match random.randrange(6):
        case 0 if len(spots) > 1 and holder is not tree:
            del holder[key]
        case 1 if isinstance(holder, list) and holder is not tree:
            holder.append(holder[key])
        case 2:
            other, other_key = random.choice(spots)
            holder[key] = json.loads(json.dumps(other[other_key]))
        case 3:
            holder[key] = random.choice(JUNK)
        case 4:
            return data.replace(json.dumps(holder[key]).encode(), _deep(random), 1)
        case _:
            holder[key] = random.choice(NUMBERS)
    return json.dumps(tree[0] if tree else None, separators=(",", ":")).encode()


def _spots(value: Any) -> Any:
    """Yield every place in a tree, as what holds it and by which key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _spots(inner)


def _deep(random: Random) -> bytes:
    count = random.choice((100, 2_000))
    return random.choice((b"[" * count, b'{"":' * count, b"9" * count, b"9" * 4_500, b"-0", b"1e400", b"0" * count))


# -- safetensors files


def mutate_file(data: bytes, random: Random) -> bytes:
    """Change a safetensors file in its header or its data; half the time the rest is made to fit."""
    length = int.from_bytes(data[:8], "little")
    try:
        table = json.loads(data[8 : 8 + length], object_pairs_hook=lambda pairs: [list(pair) for pair in pairs])
        entries = [(name, dict(fields)) for name, fields in table]
    except (ValueError, TypeError, RecursionError):
        return mutate_bytes(data, random)
    body = data[8 + length :]
    match random.randrange(8):
        case 0:
            header = mutate_json(data[8 : 8 + length], random)
            return len(header).to_bytes(8, "little") + header + body
        case 1 | 2:
            return data[: 8 + length] + mutate_bytes(body, random)
        case 3 if entries:
            random.choice((entries.append, entries.remove))(random.choice(entries))
        case _:
            entries = [
                _mutate_entry(*entry, random) if random.random() < 2 / len(entries) else entry for entry in entries
            ]
    if random.random() < 0.7:
        entries, body = _fitted(entries, body)
    return _file(entries, body, pad=random.random() < 0.9)


def _mutate_entry(name: str, fields: dict[str, Any], random: Random) -> tuple[str, dict[str, Any]]:
    fields = dict(fields)
    number = random.choice(NUMBERS) if random.random() < 0.3 else random.randrange(20)
    shape, offsets = fields.get("shape"), fields.get("data_offsets")
    match random.randrange(6):
        case 0:
            fields["dtype"] = random.choice((*DTYPES, "F8_E4M3", "f32"))
        case 1 if shape and isinstance(shape, list):
            shape = list(shape)
            shape[random.randrange(len(shape))] = number
            fields["shape"] = shape
        case 2:
            fields["shape"] = [number] if random.random() < 0.7 else [1] * random.choice((0, 2, 64, 65, 200))
        case 3 if offsets and isinstance(offsets, list):
            offsets = list(offsets)
            offsets[random.randrange(len(offsets))] = number
            fields["data_offsets"] = offsets
        case 4:
            fields[random.choice(("dtype", "shape", "data_offsets", "other"))] = random.choice(JUNK)
        case _:
            prefix, slash, rest = name.partition("/")
            name = random.choice(PREFIXES) + (rest if slash else prefix)
    return name, fields


def _fitted(entries: list[tuple[str, dict[str, Any]]], body: bytes) -> tuple[list[tuple[str, dict[str, Any]]], bytes]:
    """Lay the entries out one after the other, largest items first, as far as they can be; data are cut or added."""
    end, placed = 0, []
    for name, fields in sorted(entries, key=lambda entry: -_itemsize(entry[1])):
        size = _itemsize(fields)
        shape = fields.get("shape")
        for dimension in shape if isinstance(shape, list) else ():
            size = size * dimension if isinstance(dimension, int) else size
        placed.append((name, {**fields, "data_offsets": [end, end + size]}))
        end += size
    if 0 <= end <= 1 << 12:
        body = (body + bytes(end))[:end]
    return placed, body


def _itemsize(fields: dict[str, Any]) -> int:
    code = fields.get("dtype")
    return DTYPES[code].itemsize if isinstance(code, str) and code in DTYPES else 1


def _file(entries: list[tuple[str, dict[str, Any]]], body: bytes, *, pad: bool) -> bytes:
    text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(fields)}" for name, fields in entries) + "}"
    header = text.encode()
    header += b" " * (-len(header) % 8) if pad else b""
    return len(header).to_bytes(8, "little") + header + body


def after(count: int, mutate: Mutate) -> Mutate:
    """Return a mutation of what comes after the input's first bytes, its options; these change now and then."""

    def mutate_after(data: bytes, random: Random) -> bytes:
        options, rest = data[:count].ljust(count, b"\0"), data[count:]
        if random.random() < 0.1:
            return random.randbytes(count) + rest
        return options + mutate(rest, random)

    return mutate_after


# -- TOML

_VALUES = (
    *("nan", "-inf", "1e400", "-1", "0", "0.5", "1", "1.5", "2", "1000000", "9223372036854775808", "true"),
    *('""', '"\\u0000"', '"a\\u0000.py"', "''", '"x.py"', '"lotteryfl"', '"int8"', '"' + "x" * 300 + '"'),
    *("[]", "{}", "{a=1}", "[[1]]", "[", "[" * 300, "[" * 5_000, "{a=" * 2_000),
    *("9" * 4_000, "9" * 5_000, "0x" + "f" * 5_000),
    *("1979-05-27", "07:32:00", "2024-13-45", "1979-05-27T07:32:00Z"),
)


def mutate_toml(data: bytes, random: Random) -> bytes:
    """Change a key or a value, or lose, repeat or move a line."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    at, to = random.randrange(len(lines)), random.randrange(len(lines))
    key, equals, value = lines[at].partition("=")
    match random.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines[at] = (
                random.choice(("a.b", "'a'", "x", "round.lease", "[round]", "[[task]]", "seed")) + equals + value
            )
        case _:
            lines[at] = f"{key}= {random.choice(_VALUES)}"
    return "\n".join(lines).encode("utf-8", "surrogateescape")
