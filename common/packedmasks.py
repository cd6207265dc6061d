"""Packed masks: one bit per weight, set where the weight is kept, and the moves of values that they steer.

A packed mask is a one-dimensional uint8 array. Element i of the flattened tensor is bit i % 8 of byte i // 8,
lowest bit first; the unused bits of the last byte are zero, so equal masks have equal bytes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.transfer import sent, to_host

PackedMask = npt.NDArray[np.uint8]
Masks = Mapping[str, PackedMask]
"""By plain name of the tensor; one without a mask is kept whole."""
Indices = npt.NDArray[np.intp]
Positions = npt.NDArray[np.int32]
"""Of the kept elements in the flat tensor, ascending."""

BLOCK = 1 << 16
"""Elements worked on at a time: a block's values and indices stay in the processor's cache."""

_ALL_KEPT = np.full(BLOCK // 64 + 1, 0xFF, np.uint8)
CPU = torch.device("cpu")

_BIT_TYPES = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def packed_size(numel: int) -> int:
    """Return the bytes of a packed mask over `numel` elements."""
    return (numel + 7) // 8


def pack(mask: Tensor) -> PackedMask:
    """Pack a mask of any shape, dtype and device: an element is kept where it is not zero."""
    if mask.device.type != "cpu":
        return bits_of(mask).cpu().numpy()
    kept = mask.detach().reshape(-1).to(torch.bool).numpy()
    return np.packbits(kept, bitorder="little")


def pack_all(masks: Mapping[str, Tensor]) -> dict[str, PackedMask]:
    """Pack masks by name, and wait once for those that are on a device."""
    there = {name: bits_of(mask) for name, mask in masks.items() if mask.device.type != "cpu"}
    fetched = {name: bits.numpy().copy() for name, bits in to_host(there).items()}  # not in pinned memory: it is kept
    return {name: fetched[name] if name in fetched else pack(mask) for name, mask in masks.items()}


def unpack(packed: PackedMask, shape: Sequence[int], device: torch.device = CPU) -> Tensor:
    """Return the mask as a bool tensor of `shape` on a device, to which its bits alone travel.

    Raises:
        ValueError: `packed` is not a mask over that many elements.
    """
    size = torch.Size(shape)
    _check_length(packed, size.numel())
    if device.type != "cpu":
        return mask_of(sent(torch.from_numpy(packed), device), size)
    bits = np.unpackbits(packed, count=size.numel(), bitorder="little")
    return torch.from_numpy(bits).view(torch.bool).view(size)


def bits_of(mask: Tensor) -> Tensor:
    """Return the bytes of a packed mask, made where the mask is; on the CPU `pack` is faster."""
    kept = (mask.detach().reshape(-1) != 0).to(torch.uint8)
    eights = functional.pad(kept, (0, -kept.numel() % 8)).view(-1, 8)
    return (eights << torch.arange(8, dtype=torch.uint8, device=mask.device)).sum(dim=1, dtype=torch.uint8)


def mask_of(bits: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the mask as a bool tensor of `shape`, made where the bytes are; on the CPU `unpack` is faster."""
    size = torch.Size(shape)
    eights = (bits[:, None] >> torch.arange(8, dtype=torch.uint8, device=bits.device)) & 1
    return eights.view(-1)[: size.numel()].view(torch.bool).view(size)


def gather_there(flat: Tensor, kept: Tensor, count: int) -> Tensor:
    """Return the `count` kept elements of a flat tensor by a bool mask; a device is not waited for to count them."""
    return flat[torch.nonzero_static(kept, size=count).flatten()]


def scatter_there(values: Tensor, kept: Tensor, flat: Tensor) -> None:
    """Write values to the kept positions of a flat tensor, and 0 to all others; likewise."""
    flat.zero_().masked_scatter_(kept, values)


def count(packed: PackedMask) -> int:
    """Return how many elements are kept."""
    return int(np.bitwise_count(packed).sum(dtype=np.int64))


def complement(packed: PackedMask, numel: int) -> PackedMask:
    """Return the mask over `numel` elements that keeps exactly what `packed` does not.

    Raises:
        ValueError: `packed` is not a mask over that many elements.
    """
    _check_length(packed, numel)
    inverted = ~packed
    if numel % 8:
        inverted[-1] &= (1 << numel % 8) - 1
    return inverted


def check(packed: PackedMask, numel: int, name: str) -> None:
    """Refuse received bytes that are not a packed mask over `numel` elements.

    Raises:
        PayloadError: the number of bytes is wrong, or an unused bit of the last byte is set.
    """
    if packed.dtype != np.uint8 or packed.shape != (packed_size(numel),):
        raise PayloadError(
            f"{name}: {packed.dtype} of shape {list(packed.shape)}: "
            f"a mask of {numel} elements is {packed_size(numel)} bytes"
        )
    if numel % 8 and packed[-1] >> (numel % 8):
        raise PayloadError(
            f"{name}: last byte 0x{packed[-1]:02x}: bits from {numel % 8} on must be zero in a mask of {numel} elements"
        )


def block_indices(packed: PackedMask, start: int, size: int = BLOCK) -> Indices:
    """Return the ascending positions, within the block from element `start` on, of the elements kept there.

    Args:
        packed: the mask.
        start: a multiple of 8.
        size: elements of the block; not a multiple of 8 only where the mask ends.
    """
    part = packed[start // 8 : packed_size(start + size)]
    more = _ALL_KEPT[: part.size // 8 + 1]
    bits = np.unpackbits(np.concatenate((part, more)), bitorder="little")
    # As bool numpy finds them five times as fast; and again three times if more than a tenth are set, as with `more`.
    return np.flatnonzero(bits.view(np.bool_))[: -8 * more.size]


def positions(packed: PackedMask) -> Positions:
    """Return where the mask keeps; see `common.positions` for those that are used again.

    Raises:
        ValueError: the mask is over more elements than int32 has numbers.
    """
    numel = packed.size * 8
    if numel > np.iinfo(np.int32).max:
        raise ValueError(f"a mask over {numel} elements: positions have 32 bits")
    found = np.empty(count(packed), np.int32)
    first = 0
    for start in range(0, numel, BLOCK):
        indices = block_indices(packed, start)
        last = first + indices.size
        np.add(indices, start, out=found[first:last], casting="same_kind")
        first = last
    return found


def gather(values: Tensor, packed: PackedMask, positions: Positions | None = None) -> Tensor:
    """Return the kept elements of `values` (any shape, flattened) as a new 1-D tensor, in flat order.

    A tensor on another device is gathered there.

    Args:
        values: whole.
        packed: the mask.
        positions: the mask's, where they are at hand: they need not be searched for.

    Raises:
        ValueError: `packed` is not a mask over `values`.
        TypeError: the dtype's elements are not of 1, 2, 4 or 8 bytes.
    """
    _check_length(packed, values.numel())
    flat = values.detach().reshape(-1)
    if flat.device.type != "cpu":
        return gather_there(flat, unpack(packed, flat.shape, flat.device), count(packed))
    kept = torch.empty(count(packed), dtype=values.dtype)
    source, target = _bits(flat), _bits(kept)
    if positions is not None:
        np.take(source, positions, out=target, mode="clip")
        return kept
    first = 0
    for start in range(0, source.size, BLOCK):
        indices = block_indices(packed, start)
        last = first + indices.size
        # mode="clip" writes straight into `out`; the indices are in range by construction
        np.take(source[start : start + BLOCK], indices, out=target[first:last], mode="clip")
        first = last
    return kept


def scatter(kept: Tensor, packed: PackedMask, out: Tensor, positions: Positions | None = None) -> None:
    """Write `kept` (1-D, flat order) to the kept positions of `out`, in place, and exactly 0 to all others.

    Args:
        kept: the values.
        packed: the mask.
        out: whole.
        positions: as for `gather`.

    Raises:
        ValueError: `packed` is not a mask over `out`, `kept` is not as long as the mask says, the dtypes or
            devices differ, or `out` is not contiguous.
        TypeError: the dtype's elements are not of 1, 2, 4 or 8 bytes.
    """
    _check_length(packed, out.numel())
    expected = count(packed)
    if kept.shape != (expected,):
        raise ValueError(f"kept has shape {list(kept.shape)}, expected [{expected}] as the mask says")
    if (kept.dtype, kept.device) != (out.dtype, out.device):
        raise ValueError(f"kept is {kept.dtype} on {kept.device}, expected {out.dtype} on {out.device} as out is")
    if not out.is_contiguous():
        raise ValueError(f"out has strides {out.stride()}, expected a contiguous tensor")
    flat = out.detach().view(-1)
    if flat.device.type != "cpu":
        scatter_there(kept.detach(), unpack(packed, flat.shape, flat.device), flat)
        return
    source, target = _bits(kept.detach().contiguous()), _bits(flat)
    if positions is not None:
        target.fill(0)
        target[positions] = source
        return
    first = 0
    for start in range(0, target.size, BLOCK):
        indices = block_indices(packed, start)
        last = first + indices.size
        piece = target[start : start + BLOCK]
        piece.fill(0)
        piece[indices] = source[first:last]
        first = last


def is_subset(inner: PackedMask, outer: PackedMask) -> bool:
    """Return whether `outer` keeps everything that `inner` keeps.

    Raises:
        ValueError: the masks differ in length.
    """
    if inner.shape != outer.shape:
        raise ValueError(f"masks of {inner.size} and {outer.size} bytes, expected equal lengths")
    return not np.any(inner & ~outer)


def encode_subset(inner: PackedMask, outer: PackedMask) -> PackedMask:
    """Return the bits of `inner` at the kept positions of `outer` alone: count(outer) bits, packed.

    Raises:
        ValueError: `inner` is not a subset of `outer`.
    """
    if not is_subset(inner, outer):
        raise ValueError("the inner mask keeps elements that the outer mask has pruned")
    return pack(gather(unpack(inner, (inner.size * 8,)), outer))


def decode_subset(bits: PackedMask, outer: PackedMask) -> PackedMask:
    """Return the mask that `encode_subset` made `bits` of: a subset of `outer`, whatever `bits` are.

    Raises:
        ValueError: `bits` has not count(outer) bits.
    """
    inner = torch.empty(outer.size * 8, dtype=torch.bool)
    scatter(unpack(bits, (count(outer),)), outer, inner)
    return pack(inner)


def _check_length(packed: PackedMask, numel: int) -> None:
    if packed.shape != (packed_size(numel),):
        raise ValueError(
            f"mask of shape {list(packed.shape)}, expected [{packed_size(numel)}] bytes for {numel} elements"
        )


def _bits(flat: Tensor) -> npt.NDArray[np.generic]:
    """View a flat CPU tensor as integers of its item size: all a move needs, and numpy has no bfloat16."""
    try:
        dtype = _BIT_TYPES[flat.itemsize]
    except KeyError:
        raise TypeError(f"{flat.dtype} has {flat.itemsize} bytes, expected 1, 2, 4 or 8") from None
    bits: npt.NDArray[np.generic] = flat.view(dtype).numpy()
    return bits
