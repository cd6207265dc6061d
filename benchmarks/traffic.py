"""Bytes of one client's round at density 0.1 as they are sent, against the model as torch saves it."""

from collections.abc import Mapping

from torch import Tensor

from benchmarks.coordinators import messages
from benchmarks.harness import Goal, Row, Spread, at_least, at_most, constant, share, times_less
from benchmarks.inputs import MODELS, random_masks, random_tensors
from benchmarks.peakmemory import MIB
from common.masks import PackedMask, count
from common.payload import mask_tensors, pack_mask_update, pack_tensors
from common.tensorstream import TensorStream
from common.tensortable import TensorTable
from protos import lotteryfl_pb2 as pb

DENSITY = 0.1


def rows() -> list[Row]:
    """Down and up, with the mask as it was, pruned by a fifth, and new to the worker."""
    table = TensorTable.of(MODELS["11 M"]())
    values = random_tensors(table, seed=0)
    before = random_masks(table, DENSITY / 0.8, seed=0)
    fifth = random_masks(table, 0.8, seed=1)
    masks = {name: bits & fifth[name] for name, bits in before.items()}
    kept = _sent(pack_tensors(table, values, masks))
    update = _sent(pack_tensors(table, values, masks) | pack_mask_update(masks, before))
    blob = _sent(mask_tensors(masks))
    prunable = sum(spec.numel for spec in table if spec.prunable)
    return [
        *_rows("down and up, mask unchanged", 2 * kept, _Sizes(table, masks, 2, 0), at_least(18)),
        *_rows("up, mask pruned by a fifth", update, _Sizes(table, masks, 1, _kept(before)), at_least(18)),
        *_rows("down, mask new to the worker", kept + blob, _Sizes(table, masks, 1, prunable)),
    ]


class _Sizes:
    """What must be sent, by the formula: values of the kept weights, the dense rest, bits of the mask."""

    def __init__(self, table: TensorTable, masks: Mapping[str, PackedMask], directions: int, mask_bits: int) -> None:
        rest = sum(spec.nbytes for spec in table if not spec.prunable)
        prunable = sum(spec.nbytes for spec in table if spec.prunable)
        self.naive = directions * (rest + 2 * prunable)
        self.bound = 1.02 * (directions * (4 * _kept(masks) + rest) + mask_bits / 8) + (16 << 10)


def _rows(case: str, sent: int, sizes: _Sizes, goal: Goal | None = None) -> list[Row]:
    label = f"bytes of 11 M at density {DENSITY}, {case}"
    formula = "1.02 × (values + rest + mask bits) + 16 KiB"
    return [
        times_less(label, _mib(sent), _mib(sizes.naive), "weight_orig + weight_mask", "MiB", goal),
        share(label, _mib(sent), _mib(sizes.bound), formula, "MiB", at_most(1)),
    ]


def _sent(entries: Mapping[str, Tensor]) -> int:
    """Return the bytes of all messages that carry the entries."""
    payload = TensorStream(entries)
    first = pb.BlobPart(header=pb.PayloadHeader(size=payload.size))
    return sum(part.ByteSize() for part in messages(first, payload))


def _kept(masks: Mapping[str, PackedMask]) -> int:
    return sum(map(count, masks.values()))


def _mib(size: float) -> Spread:
    return constant(size / MIB)
