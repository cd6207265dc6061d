"""Bytes of one client's round at density 0.1 as they are sent, against the model as torch saves it."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from torch import Tensor

from benchmarks.coordinators import messages
from benchmarks.harness import Goal, Row, Spread, at_least, at_most, constant, share, times_less
from benchmarks.inputs import MODELS, random_masks, random_tensors
from benchmarks.peakmemory import MIB
from lotteryfl.common.experiment.settings import WireDtype
from lotteryfl.common.packedmasks import Masks, count
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.payload import mask_tensors, pack_mask_update
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb

DENSITY = 0.1

FULL, QUICK = "11 M", "20 k"


class Form(NamedTuple):
    """What is expected of a wire dtype."""

    bits: float
    """Of a value as it travels."""
    unchanged: Goal | None = None
    """Where the mask stayed."""
    pruned: Goal | None = None
    """Where it lost a fifth."""


FORMS: dict[WireDtype, Form] = {
    "float32": Form(32, at_least(18), at_least(18)),
    "bfloat16": Form(16, at_least(36)),
    "int8": Form(8 + 32 / 256),
}


def rows(model: str) -> list[Row]:
    """For every wire dtype down and up, with the mask as it was, pruned by a fifth, and new to the worker."""
    table = TensorTable.of(MODELS[model]())
    values = random_tensors(table, seed=0)
    before = random_masks(table, DENSITY / 0.8, seed=0)
    fifth = random_masks(table, 0.8, seed=1)
    masks = {name: bits & fifth[name] for name, bits in before.items()}
    blob = _sent(mask_tensors(masks))
    prunable = sum(spec.numel for spec in table if spec.prunable)
    of_case, found = partial(_rows, model), []
    for dtype, form in FORMS.items():
        entries = WireFormat(table, dtype).pack(values, masks)
        kept, update = _sent(entries), _sent(entries | pack_mask_update(masks, before))
        needed = partial(_Bytes, table, masks, form.bits)
        found += [
            *of_case(f"{dtype} down and up, mask unchanged", 2 * kept, needed(2, 0), form.unchanged),
            *of_case(f"{dtype} up, mask pruned by a fifth", update, needed(1, _kept(before)), form.pruned),
            *of_case(f"{dtype} down, mask new to the worker", kept + blob, needed(1, prunable)),
        ]
    return found


class _Bytes:
    """What must be sent, by the formula: values of the kept weights, the dense rest, bits of the mask."""

    def __init__(self, table: TensorTable, masks: Masks, bits: float, directions: int, mask_bits: int) -> None:
        rest = sum(spec.nbytes for spec in table if not spec.prunable)
        prunable = sum(spec.nbytes for spec in table if spec.prunable)
        self.naive = directions * (rest + 2 * prunable)
        values = bits / 8 * _kept(masks)
        self.bound = 1.02 * (directions * (values + rest) + mask_bits / 8) + (16 << 10)


def _rows(model: str, case: str, sent: int, needed: _Bytes, goal: Goal | None = None) -> list[Row]:
    label = f"bytes of {model} at density {DENSITY}, {case}"
    formula = "1.02 × (values + rest + mask bits) + 16 KiB"
    return [
        times_less(label, _mib(sent), _mib(needed.naive), "weight_orig + weight_mask", "MiB", goal),
        share(label, _mib(sent), _mib(needed.bound), formula, "MiB", at_most(1)),
    ]


def _sent(entries: Mapping[str, Tensor]) -> int:
    """Return the bytes of all messages that carry the entries."""
    payload = TensorStream(entries)
    first = pb.BlobPart(header=pb.PayloadHeader(size=payload.size))
    return sum(part.ByteSize() for part in messages(first, payload))


def _kept(masks: Masks) -> int:
    return sum(map(count, masks.values()))


def _mib(size: float) -> Spread:
    return constant(size / MIB)
