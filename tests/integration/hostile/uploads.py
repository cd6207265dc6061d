"""Results that must be refused, each made of an honest one, and what the refusal says."""

import math
from collections.abc import Callable
from typing import Any

import torch

from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.integration.hostile.forgery import CHUNK, file_of, payload_of, taken_apart, upload
from tests.support.handworker import Done

Attack = Callable[[Done], list[bytes]]
KEPT, MASK, BIAS = "kept/0.weight", "mask/0.weight", "dense/0.bias"

ATTACKS: dict[str, tuple[Attack, str]] = {}
"""By name: the messages, and a pattern that the whole reason matches."""


def refused(reason: str) -> Callable[[Attack], Attack]:
    def add(attack: Attack) -> Attack:
        ATTACKS[attack.__name__.replace("_", " ")] = attack, reason
        return attack

    return add


def with_entries(done: Done, **changes: Any) -> list[bytes]:
    entries = dict(done.entries)
    for key, value in changes.items():
        if value is None:
            del entries[key]
        else:
            entries[key] = value
    return upload(done.result, payload_of(entries))


def with_header(done: Done, change: Callable[[dict[str, Any]], None]) -> list[bytes]:
    header, data = taken_apart(done)
    change(header)
    return upload(done.result, file_of(header, data))


# -- the stream


@refused(r"\S+: \d+ bytes received, \d+ announced, \d+ in the trailer")
def truncated(done: Done) -> list[bytes]:
    payload = payload_of(done.entries)
    return upload(done.result, payload[:-8], announced=len(payload))


@refused(r"\S+: checksum [0-9a-f]{8}, expected [0-9a-f]{8}")
def chunks_in_another_order(done: Done) -> list[bytes]:
    head, first, second, *rest = upload(done.result, payload_of(done.entries))
    return [head, second, first, *rest]


@refused(rf"\S+: {2**60} bytes announced, at most \d+ are taken")
def more_announced_than_the_table_allows(done: Done) -> list[bytes]:
    return upload(done.result, payload_of(done.entries), announced=2**60)


@refused(r"\S+: \d+ bytes received, \d+ announced")
def more_chunks_than_announced(done: Done) -> list[bytes]:
    *messages, end = upload(done.result, payload_of(done.entries))
    return [*messages, *[pb.ResultPart(chunk=bytes(CHUNK)).SerializeToString()] * 100, end]


@refused(r"\S+: \d+ bytes received, \d+ announced, 1 in the trailer")
def a_trailer_of_another_size(done: Done) -> list[bytes]:
    return upload(done.result, payload_of(done.entries), trailer=pb.PayloadTrailer(size=1))


@refused("expected a chunk or the trailer, got result")
def two_headers(done: Done) -> list[bytes]:
    messages = upload(done.result, payload_of(done.entries))
    return [messages[0], *messages]


@refused(r"a message has \d{7} bytes: at most 1048576 are taken")
def a_second_header_of_three_million_bytes(done: Done) -> list[bytes]:
    first, *_ = upload(done.result, payload_of(done.entries))
    long = pb.ResultPart(result=pb.Result(mask_digest="0" * 3_000_000))
    return [first, long.SerializeToString()]


@refused("a message of 2 bytes is not one of the stream: .*")
def a_message_that_is_none(done: Done) -> list[bytes]:
    return [upload(done.result, b"")[0], b"\x0a\xff"]


# -- the file


@refused("the payload: the file is empty")
def no_bytes_at_all(done: Done) -> list[bytes]:
    return upload(done.result, b"")


@refused(r"the payload: header of \d+ bytes, at most \d+ are read")
def a_header_that_claims_2_to_the_60_bytes(done: Done) -> list[bytes]:
    return upload(done.result, (2**60).to_bytes(8, "little") + payload_of(done.entries)[8:])


@refused("the payload: the header is not valid JSON: .*")
def a_header_of_ten_thousand_brackets(done: Done) -> list[bytes]:
    return upload(done.result, file_of(b"{" + b'"a":[' * 10_000, b""))


@refused("the payload: the header is not valid JSON: duplicate name 'kept/0.weight'")
def the_same_name_twice(done: Done) -> list[bytes]:
    entry = b'"kept/0.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    return upload(done.result, file_of(b"{" + entry + b"," + entry + b"}", bytes(4)))


@refused(r"the payload: '\S+': data begin at \d+, expected \d+: no holes, no overlaps")
def a_hole(done: Done) -> list[bytes]:
    def move(header: dict[str, Any]) -> None:
        last = max(header.values(), key=lambda entry: int(entry["data_offsets"][1]))
        last["data_offsets"] = [offset + 8 for offset in last["data_offsets"]]

    return with_header(done, move)


@refused(r"the payload: '\S+': data begin at 0, expected \d+: no holes, no overlaps")
def an_overlap(done: Done) -> list[bytes]:
    def move(header: dict[str, Any]) -> None:
        for entry in header.values():
            begin, end = entry["data_offsets"]
            entry["data_offsets"] = [0, end - begin]

    return with_header(done, move)


@refused(r"the payload: 'kept/0.weight': shape is \[.*\], more than memory can hold")
def a_tensor_of_2_to_the_64_elements(done: Done) -> list[bytes]:
    return with_header(done, lambda header: header[KEPT].update(shape=[2**32, 2**32]))


@refused("the payload: 'kept/0.weight': dtype is 'pickle', expected one of .*")
def a_dtype_that_there_is_not(done: Done) -> list[bytes]:
    return with_header(done, lambda header: header[KEPT].update(dtype="pickle"))


# -- the tensors


@refused(r"'t0': unexpected: not what the model's table and the mask say")
def ten_thousand_tensors(done: Done) -> list[bytes]:
    nothing = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    return upload(done.result, file_of({f"t{number}": nothing for number in range(10_000)}, b""))


@refused(r"'\.\./\.\./run\.db': unexpected: not what the model's table and the mask say")
def a_name_that_is_a_path(done: Done) -> list[bytes]:
    return with_entries(done, **{"../../run.db": torch.zeros(2)})


@refused("kept/0.weight: missing")
def a_tensor_that_is_missing(done: Done) -> list[bytes]:
    return with_entries(done, **{KEPT: None})


@refused(r"kept/0.weight: torch.float64 of shape \[\d+\], expected torch.float32 of shape \[\d+\]")
def a_wrong_dtype(done: Done) -> list[bytes]:
    # Half as many tensors, so that the payload is not too long before anybody looks into it.
    return with_entries(done, **{KEPT: done.entries[KEPT][::2].double()})


@refused(r"kept/0.weight: torch.float32 of shape \[\d+, 1\], expected torch.float32 of shape \[\d+\]")
def a_wrong_shape(done: Done) -> list[bytes]:
    return with_entries(done, **{KEPT: done.entries[KEPT].unsqueeze(1)})


@refused(r"kept/0.weight: torch.float32 of shape \[\d+\], expected torch.float32 of shape \[\d+\]")
def one_kept_value_less_than_the_mask_says(done: Done) -> list[bytes]:
    return with_entries(done, **{KEPT: done.entries[KEPT][:-1].clone()})


def spoilt(key: str, value: float) -> Attack:
    def attack(done: Done) -> list[bytes]:
        tensor = done.entries[key].clone()
        tensor[5] = value
        return with_entries(done, **{key: tensor})

    return attack


for number in (math.nan, math.inf, -math.inf):
    ATTACKS[f"{number} among the kept"] = (
        spoilt(KEPT, number),
        f"kept/0.weight: value {number} at flat index 5, expected finite",
    )
ATTACKS["nan in a bias"] = spoilt(BIAS, math.nan), "dense/0.bias: value nan at flat index 5, expected finite"


# -- the mask


@refused(r"mask/0.weight: uint8 of shape \[24576\]: a mask of \d+ elements is \d+ bytes")
def a_mask_that_grows(done: Done) -> list[bytes]:
    """It is written over the positions that were kept: more of them cannot be named, but by more bits."""
    return with_entries(done, **{MASK: torch.full((24_576,), 255, dtype=torch.uint8)})


@refused(r"mask/[02].weight: last byte 0x[0-9a-f]{2}: bits from \d on must be zero in a mask of \d+ elements")
def a_mask_with_bits_beyond_its_end(done: Done) -> list[bytes]:
    """In both tensors: one of them may have a multiple of 8 weights, and no bit to spare."""
    masks = {key: tensor.clone() for key, tensor in done.entries.items() if key.startswith("mask/")}
    for bits in masks.values():
        bits[-1] |= 0x80
    return with_entries(done, **masks)


@refused(r"kept/0.weight: torch.float32 of shape \[\d+\], expected torch.float32 of shape \[0\]")
def a_mask_that_keeps_nothing_with_values(done: Done) -> list[bytes]:
    return with_entries(done, **{MASK: torch.zeros_like(done.entries[MASK])})


@refused(r"mask/0.weight: torch.float32 of shape \[\d+\], expected packed bits as torch.uint8")
def a_mask_of_floats(done: Done) -> list[bytes]:
    return with_entries(done, **{MASK: done.entries[MASK].float()[::8]})


@refused("'mask/0.bias': unexpected: not a prunable tensor of the model")
def a_mask_of_what_is_not_pruned(done: Done) -> list[bytes]:
    return with_entries(done, **{"mask/0.bias": done.entries[MASK]})


# -- what it says of itself


def saying(change: Callable[[pb.Result], object]) -> Attack:
    def attack(done: Done) -> list[bytes]:
        result = pb.Result()
        result.CopyFrom(done.result)
        change(result)
        return upload(result, payload_of(done.entries))

    return attack


def setting(path: str, value: object) -> Callable[[pb.Result], object]:
    *where, field = path.split(".")

    def change(result: pb.Result) -> None:
        message: Any = result
        for name in where:
            message = getattr(message, name)
        setattr(message, field, value)

    return change


for path, value, expected in (
    ("examples", 0, r"1 to \d+"),
    ("examples", 2**63, r"1 to \d+"),
    ("metrics.train_loss", math.nan, "a finite number from 0 to inf"),
    ("metrics.seconds", -1.0, "a finite number from 0 to inf"),
    ("metrics.density", math.inf, "a finite number from 0 to 1"),
    ("metrics.validation.accuracy", math.nan, "a finite number from 0 to 1"),
    ("metrics.personalised.loss", -math.inf, "a finite number from 0 to inf"),
    ("metrics.personalised.accuracy", -0.5, "a finite number from 0 to 1"),
    ("metrics.downloaded.macro_recall", 1.5, "a finite number from 0 to 1"),
    ("metrics.downloaded.examples", 2**63, r"a finite number from 0 to \d+"),
):
    ATTACKS[f"{path} = {value}"] = saying(setting(path, value)), rf"{path} = \S+: expected {expected}"

ATTACKS["a density that is not the mask's"] = (
    saying(setting("metrics.density", 0.25)),
    r"metrics.density = 0.25: the mask sent has 0\.\d+",
)
ATTACKS["the digest of another mask"] = (
    saying(setting("mask_digest", "0" * 64)),
    "mask_digest = '0{64}': the mask sent has '[0-9a-f]{64}'",
)
ATTACKS["a digest of a thousand characters"] = (
    saying(setting("mask_digest", "0" * 1000)),
    r"mask_digest = '0+\.\.\.0+': the mask sent has '[0-9a-f]{64}'",
)
ATTACKS["no measurements"] = (
    saying(lambda result: result.metrics.ClearField("personalised")),
    "metrics.personalised: missing",
)
