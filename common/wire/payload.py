"""The entries of a payload, a safetensors file: their names, masks among them, and how large it can be.

`kept/NAME` holds the kept values of a masked tensor in flat order, `dense/NAME` a tensor without a mask, whole,
`scale/NAME` the scales of either where it is int8, `own/NAME` the values off a mask where these are not pruned but
the client's own, `bits/NAME` a bool tensor of a strategy's own as packed bits (all five: `common.wire.format`), and
`mask/NAME` the packed bits of a mask: all of them, or, where the receiver has a mask already, only those at the
positions that it keeps. Where the experiment has masks coded, `coded/NAME` holds the same bits, if that is fewer bytes
(`common.wire.maskcoding`). What is received is checked against the model's own tensor table.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.experiment.settings import MaskCoding
from lotteryfl.common.names import Digest
from lotteryfl.common.packedmasks import Masks, PackedMask
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.text import quoted
from lotteryfl.common.wire import maskcoding
from lotteryfl.common.wire.table import TensorSpec, TensorTable

KEPT = "kept/"
DENSE = "dense/"
SCALE = "scale/"
OWN = "own/"
BITS = "bits/"
MASK = "mask/"
CODED = "coded/"

_ENTRY_ALLOWANCE = 128
"""Bytes of an entry in the header besides its name and shape: dtype, offsets, punctuation."""


def plain_name(key: str) -> str:
    """Return the name of the tensor whose entry this is; of a mask's entry, ''."""
    kind, _, name = key.partition("/")
    return "" if f"{kind}/" in (MASK, CODED) else name


def is_of_mask(key: str) -> bool:
    """Tell whether an entry is a mask's."""
    return key.startswith((MASK, CODED))


def pack_mask_update(new: Masks, old: Masks, coding: MaskCoding = "packed") -> dict[str, Tensor]:
    """Return the entries that take a receiver from the old masks to the new.

    An unchanged mask is left out; a changed one is sent as its bits at the positions that the old one keeps;
    one of a tensor that was dense, whole.

    Args:
        new: the masks to come to.
        old: those that the receiver has.
        coding: as what bits are sent.

    Raises:
        ValueError: a new mask keeps what the old one has pruned, or is missing.
        ExperimentError: what codes masks is not installed.
    """
    entries: dict[str, Tensor] = {}
    lost = old.keys() - new.keys()
    if lost:
        raise ValueError(f"{min(lost)}: has a mask, and none in the update: a mask only loses bits")
    for name, packed in new.items():
        before = old.get(name)
        if before is None:
            entries |= _entry(name, packed, coding)
        elif packed is not before and not np.array_equal(packed, before):
            try:
                bits = packedmasks.encode_subset(packed, before)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            entries |= _entry(name, bits, coding)
    return entries


def _entry(name: str, bits: PackedMask, coding: MaskCoding) -> dict[str, Tensor]:
    coded = maskcoding.encode(bits) if coding == "ans" else None
    return {MASK + name: torch.from_numpy(bits)} if coded is None else {CODED + name: torch.from_numpy(coded)}


def unpack_mask_update(
    table: TensorTable, entries: Mapping[str, Tensor], old: Masks, coding: MaskCoding = "packed"
) -> dict[str, PackedMask]:
    """Return the masks after an update, in table order: subsets of the old ones, whatever was received.

    Entries of values are left to `common.wire.format`. A mask sent whole, and not coded, is a view of the payload.

    Args:
        table: of the model.
        entries: what was received.
        old: the masks before.
        coding: as what bits may have been sent; packed they always may be.

    Raises:
        PayloadError: an entry names no prunable tensor, or is not the bits expected for it.
        ExperimentError: what decodes masks is not installed.
    """
    specs = {spec.name: spec for spec in table}
    masks = dict(old)
    for key, tensor in entries.items():
        if not is_of_mask(key):
            continue
        kind, _, name = key.partition("/")
        spec, is_coded = specs.get(name), f"{kind}/" == CODED
        if spec is None or not spec.prunable:
            raise PayloadError(f"{quoted(key)}: unexpected: not a prunable tensor of the model")
        if is_coded and (coding == "packed" or MASK + name in entries):
            raise PayloadError(
                f"{quoted(key)}: unexpected: {'its mask is there' if coding == 'ans' else 'not asked for'}"
            )
        before = old.get(name)
        bits = _bits_of(key, tensor, spec.numel if before is None else packedmasks.count(before), is_coded=is_coded)
        masks[name] = bits if before is None else packedmasks.decode_subset(bits, before)
    return {name: masks[name] for name in specs if name in masks}


def _bits_of(key: str, tensor: Tensor, numel: int, *, is_coded: bool) -> PackedMask:
    """Return the packed bits, `numel` of them, that an entry holds."""
    if tensor.dtype != torch.uint8:
        raise PayloadError(
            f"{key}: {tensor.dtype} of shape {list(tensor.shape)}, expected packed bits as {torch.uint8}"
        )
    received: PackedMask = tensor.numpy()
    if is_coded:
        return maskcoding.decode(received, numel, key)
    packedmasks.check(received, numel, key)
    return received


def mask_tensors(masks: Masks) -> dict[str, Tensor]:
    """Return whole masks as entries in the order of their names, so that equal masks have equal bytes."""
    return {MASK + name: torch.from_numpy(masks[name]) for name in sorted(masks)}


def masks_from_entries(table: TensorTable, entries: Mapping[str, Tensor]) -> dict[str, PackedMask]:
    """Return the masks that `mask_tensors` made the entries of, in table order, as views of their memory.

    Raises:
        PayloadError: as `unpack_mask_update`, or an entry is not a mask.
    """
    for key in entries:
        if not key.startswith(MASK):
            raise PayloadError(f"{quoted(key)}: unexpected: not a mask")
    return unpack_mask_update(table, entries, {})


def mask_digest(masks: Masks) -> Digest:
    """Return the SHA-256 (hexadecimal) of the safetensors bytes of `mask_tensors`; no masks, "" (dense)."""
    if not masks:
        return Digest("")
    digest = hashlib.sha256()
    for chunk in TensorStream(mask_tensors(masks)):
        digest.update(chunk)
    return Digest(digest.hexdigest())


def is_digest(text: str) -> TypeGuard[Digest]:
    """Tell whether this is a SHA-256, hexadecimal, as content is named by."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def mask_density(table: TensorTable, masks: Masks) -> float:
    """Return the kept share of the prunable weights; of a model without any, 1."""
    total, kept = prunable_weights(table, masks)
    return kept / total if total else 1.0


def prunable_weights(table: TensorTable, masks: Masks) -> tuple[int, int]:
    """Return how many weights are prunable, and how many of them the masks keep."""
    prunable = [spec for spec in table if spec.prunable]
    kept = sum(packedmasks.count(masks[s.name]) if s.name in masks else s.numel for s in prunable)
    return sum(spec.numel for spec in prunable), kept


def max_payload_bytes(table: TensorTable) -> int:
    """Return an upper bound of any payload for the table, in any wire dtype: every tensor dense, every mask whole."""
    size = 16  # the header's length and padding
    for spec in table:
        size += spec.nbytes + _header_allowance(DENSE + spec.name, spec)
        if spec.prunable:
            size += packedmasks.packed_size(spec.numel) + _header_allowance(CODED + spec.name, spec)
            # Values as int8 and their scales are together smaller than as float32, but for one scale of a tiny tensor.
            size += torch.float32.itemsize + _header_allowance(SCALE + spec.name, spec)
            size += _header_allowance(OWN + spec.name, spec)  # its values are those that are not among the kept
    return size


def _header_allowance(key: str, spec: TensorSpec) -> int:
    return _ENTRY_ALLOWANCE + len(json.dumps(key)) + len(json.dumps(spec.shape))
