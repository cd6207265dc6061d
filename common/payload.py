"""What travels between coordinator and worker: a model's tensors as the entries of a safetensors file.

`kept/NAME` holds the kept values of a masked tensor in flat order, `dense/NAME` a tensor without a mask,
whole, and `mask/NAME` the packed bits of a mask: all of them, or, where the receiver has a mask already, only
those at the positions that it keeps. What is received is checked against the model's own tensor table.
"""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from common import masks as packed_masks
from common.errors import PayloadError
from common.masks import PackedMask
from common.tensorlayout import quoted
from common.tensorstream import TensorStream
from common.tensortable import TensorSpec, TensorTable

KEPT = "kept/"
DENSE = "dense/"
MASK = "mask/"

_ENTRY_ALLOWANCE = 128
"""Bytes of an entry in the header besides its name and shape: dtype, offsets, punctuation."""


def pack_tensors(
    table: TensorTable, tensors: Mapping[str, Tensor], masks: Mapping[str, PackedMask]
) -> dict[str, Tensor]:
    """Return the entries for all tensors of the table, in its order: kept values where there is a mask.

    Args:
        table: of the model.
        tensors: by name, of the table's dtypes and shapes, on any device; dense ones are not copied.
        masks: by name; a tensor without one is sent whole.

    Raises:
        ValueError: the names, dtypes or shapes are not those of the table.
    """
    _check_known(table, masks)
    entries: dict[str, Tensor] = {}
    for spec in table:
        tensor = tensors.get(spec.name)
        if tensor is None:
            raise ValueError(f"{spec.name}: not among the tensors to send")
        if (tensor.dtype, tuple(tensor.shape)) != (spec.dtype, spec.shape):
            raise ValueError(f"{spec.name}: {_form(tensor)}, expected {_expected(spec.dtype, spec.shape)}")
        packed = masks.get(spec.name)
        if packed is None:
            entries[DENSE + spec.name] = tensor
        else:
            entries[KEPT + spec.name] = packed_masks.gather(tensor, packed)
    return entries


def unpack_tensors(
    table: TensorTable, entries: Mapping[str, Tensor], masks: Mapping[str, PackedMask]
) -> dict[str, Tensor]:
    """Return all tensors of the table, whole, with exact zeros where a mask prunes.

    Dense ones are the entries themselves: views of the payload's memory.

    Raises:
        PayloadError: as `check_entries`.
        ValueError: `masks` names a tensor that the table has not.
    """
    check_entries(table, entries, masks)
    return {spec.name: _whole(spec, entries, masks) for spec in table}


def unpack_into(
    table: TensorTable,
    entries: Mapping[str, Tensor],
    masks: Mapping[str, PackedMask],
    tensors: Mapping[str, Tensor],
) -> None:
    """Write all tensors of the table into those of a model, in place, as `unpack_tensors` would return them.

    Nothing is made whole on the way, and only kept values go to another device.

    Args:
        table: of the model.
        entries: what arrived.
        masks: by name.
        tensors: of the table's names, dtypes and shapes, as `common.parameters.named_tensors` gives them.

    Raises:
        PayloadError: as `check_entries`; nothing has been written then.
        ValueError: `masks` names a tensor that the table has not.
    """
    check_entries(table, entries, masks)
    for spec in table:
        tensor, packed = tensors[spec.name], masks.get(spec.name)
        if packed is not None and tensor.is_contiguous():
            packed_masks.scatter(entries[KEPT + spec.name].to(tensor.device), packed, tensor)
        else:
            tensor.copy_(_whole(spec, entries, masks))


def _whole(spec: TensorSpec, entries: Mapping[str, Tensor], masks: Mapping[str, PackedMask]) -> Tensor:
    packed = masks.get(spec.name)
    if packed is None:
        return entries[DENSE + spec.name]
    whole = torch.empty(spec.shape, dtype=spec.dtype)
    packed_masks.scatter(entries[KEPT + spec.name], packed, whole)
    return whole


def check_entries(table: TensorTable, entries: Mapping[str, Tensor], masks: Mapping[str, PackedMask]) -> None:
    """Check received entries without building a dense tensor: in bounded memory over a mapped file.

    `mask/` entries are left to `unpack_mask_update`.

    Raises:
        PayloadError: an entry is missing or unexpected, its dtype or shape is not what table and mask say, or
            a floating-point value is not finite.
        ValueError: `masks` names a tensor that the table has not.
    """
    _check_known(table, masks)
    expected: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for spec in table:
        packed = masks.get(spec.name)
        if packed is None:
            expected[DENSE + spec.name] = (spec.dtype, spec.shape)
        else:
            expected[KEPT + spec.name] = (spec.dtype, (packed_masks.count(packed),))
    for key in entries:
        if key not in expected and not key.startswith(MASK):
            raise PayloadError(f"{quoted(key)}: unexpected: not what the model's table and the mask say")
    for key, (dtype, shape) in expected.items():
        if key not in entries:
            raise PayloadError(f"{key}: missing")
        if (entries[key].dtype, tuple(entries[key].shape)) != (dtype, shape):
            raise PayloadError(f"{key}: {_form(entries[key])}, expected {_expected(dtype, shape)}")
        _check_finite(key, entries[key])


def pack_mask_update(new: Mapping[str, PackedMask], old: Mapping[str, PackedMask]) -> dict[str, Tensor]:
    """Return the entries that take a receiver from the old masks to the new.

    An unchanged mask is left out; a changed one is sent as its bits at the positions that the old one keeps;
    one of a tensor that was dense, whole.

    Raises:
        ValueError: a new mask keeps what the old one has pruned, or is missing.
    """
    entries: dict[str, Tensor] = {}
    lost = old.keys() - new.keys()
    if lost:
        raise ValueError(f"{min(lost)}: has a mask, and none in the update: a mask only loses bits")
    for name, packed in new.items():
        before = old.get(name)
        if before is None:
            entries[MASK + name] = torch.from_numpy(packed)
        elif not np.array_equal(packed, before):
            try:
                bits = packed_masks.encode_subset(packed, before)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            entries[MASK + name] = torch.from_numpy(bits)
    return entries


def unpack_mask_update(
    table: TensorTable, entries: Mapping[str, Tensor], old: Mapping[str, PackedMask]
) -> dict[str, PackedMask]:
    """Return the masks after an update, in table order: subsets of the old ones, whatever was received.

    Entries other than `mask/` are left to `check_entries`. A mask sent whole is a view of the payload.

    Raises:
        PayloadError: an entry names no prunable tensor, or is not the packed bits expected for it.
    """
    specs = {spec.name: spec for spec in table}
    masks = dict(old)
    for key, bits in entries.items():
        if not key.startswith(MASK):
            continue
        spec = specs.get(key.removeprefix(MASK))
        if spec is None or not spec.prunable:
            raise PayloadError(f"{quoted(key)}: unexpected: not a prunable tensor of the model")
        if bits.dtype != torch.uint8:
            raise PayloadError(f"{key}: {_form(bits)}, expected packed bits as {torch.uint8}")
        received, before = bits.numpy(), old.get(spec.name)
        if before is None:
            packed_masks.check(received, spec.numel, key)
            masks[spec.name] = received
        else:
            packed_masks.check(received, packed_masks.count(before), key)
            masks[spec.name] = packed_masks.decode_subset(received, before)
    return {name: masks[name] for name in specs if name in masks}


def mask_tensors(masks: Mapping[str, PackedMask]) -> dict[str, Tensor]:
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


def mask_digest(masks: Mapping[str, PackedMask]) -> str:
    """Return the SHA-256 (hexadecimal) of the safetensors bytes of `mask_tensors`; no masks, "" (dense)."""
    if not masks:
        return ""
    digest = hashlib.sha256()
    for chunk in TensorStream(mask_tensors(masks)):
        digest.update(chunk)
    return digest.hexdigest()


def max_payload_bytes(table: TensorTable) -> int:
    """Return an upper bound of any payload for the table: every tensor dense and every mask whole."""
    size = 16  # the header's length and padding
    for spec in table:
        size += spec.nbytes + _header_allowance(DENSE + spec.name, spec)
        if spec.prunable:
            size += packed_masks.packed_size(spec.numel) + _header_allowance(MASK + spec.name, spec)
    return size


def _header_allowance(key: str, spec: TensorSpec) -> int:
    return _ENTRY_ALLOWANCE + len(json.dumps(key)) + len(json.dumps(spec.shape))


def _check_known(table: TensorTable, masks: Mapping[str, PackedMask]) -> None:
    unknown = masks.keys() - {spec.name for spec in table}
    if unknown:
        raise ValueError(f"{min(unknown)}: has a mask, but is not in the model's table")


def _check_finite(key: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    # The extremes are finite exactly when all values are (NaN propagates), and take one pass and no memory.
    if all(bool(extreme.isfinite()) for extreme in torch.aminmax(tensor)):
        return
    flat = tensor.reshape(-1)
    for start in range(0, flat.numel(), packed_masks.BLOCK):
        bad = flat[start : start + packed_masks.BLOCK].isfinite().logical_not_().nonzero()
        if len(bad):
            index = start + int(bad[0])
            raise PayloadError(f"{key}: value {float(flat[index])} at flat index {index}, expected finite")


def _form(tensor: Tensor) -> str:
    return _expected(tensor.dtype, tensor.shape)


def _expected(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{dtype} of shape {list(shape)}"
