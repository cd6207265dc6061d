"""The values of a model as the entries of a payload: kept ones alone, weights in the dtype of the experiment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod

import torch
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.experiment.settings import WireDtype
from lotteryfl.common.packedmasks import Masks, PackedMask
from lotteryfl.common.positions import Positions
from lotteryfl.common.tensors.stream import Deferred, TensorStream
from lotteryfl.common.text import quoted
from lotteryfl.common.wire.finite import all_finite
from lotteryfl.common.wire.payload import BITS, DENSE, KEPT, OWN, SCALE, is_of_mask, plain_name
from lotteryfl.common.wire.quantization import (
    DTYPES,
    LEVELS,
    MAX_SCALE,
    SCALE_BLOCK,
    dequantize,
    number_of_scales,
    quantize,
)
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb

Initial = Callable[[], Mapping[str, Tensor]]
"""Gives θ_0 by plain name, asked for only where a buffer has a value that is not finite: it may travel if θ_0 has the
same one there, as in a causal mask of -inf."""


@dataclass(frozen=True)
class WireFormat:
    """How the tensors of a model that go with every round are written as entries, and read and checked.

    The prunable float32 tensors travel in the wire dtype, whether a mask is on them or not. All others (biases,
    norms, buffers, tensors of other dtypes) travel as they are: they are few, and what a running variance loses
    in int8 is more than it can bear. So does what is measured of the prunable ones (`of_result`).

    Tensors of a strategy's own travel as they are too: kept values where they go under the mask of a weight, and bool
    ones as packed bits.

    Where a client owns the weights off its mask (`own`), they travel too, as they are; otherwise they are 0.

    Values are finite, but for what a buffer holds from the start: see `initial`.
    """

    table: TensorTable
    """The tensor table of the model and its strategy, without what is frozen: `TensorTable.moving`."""
    wire_dtype: WireDtype
    initial: Initial = dict
    """θ_0; by default there is none, and all values must be finite."""
    positions: Positions | None = None
    """Finds where masks keep, and holds it for the next time; None: each mask is searched whenever it is used."""
    sends: tuple[str, ...] | None = None
    """Which of the strategy's tensors that only come up are there, as `Plan.sends`; None: as an assignment travels."""

    @cached_property
    def rows(self) -> TensorTable:
        """The table of what travels."""
        return self.table.lasting if self.sends is None else self.table.sending(self.sends)

    @property
    def is_lossless(self) -> bool:
        """Whether what arrives is what was sent, bit for bit."""
        return self.wire_dtype == "float32"

    def of_result(self, plan: pb.Plan) -> "WireFormat":
        """Return how a result of this plan travels: what has been measured is not narrowed."""
        wire_dtype = "float32" if plan.lossless else self.wire_dtype
        return replace(self, wire_dtype=wire_dtype, sends=tuple(plan.sends))

    def bits(self, spec: TensorSpec) -> float:
        """Return what a value of the tensor takes on the wire, its share of a scale included."""
        if not self._narrows(spec):
            return 1 if spec.is_bits else 8 * spec.dtype.itemsize
        return 8 * DTYPES[self.wire_dtype].itemsize + (32 / SCALE_BLOCK if self.wire_dtype == "int8" else 0)

    def pack(self, tensors: Mapping[str, Tensor], masks: Masks, *, own: bool = False) -> dict[str, Tensor]:
        """Return the entries for all tensors of the table, in its order: kept values where there is a mask.

        Args:
            tensors: by name, of the table's dtypes and shapes, on any device; a dense one that is not narrowed
                is not copied.
            masks: by name; a tensor without one is sent whole.
            own: send the values off the masks, too.

        Raises:
            ValueError: the names, dtypes or shapes are not those of the table.
            PayloadError: a value is not finite or beyond the range of the dtype that it would be narrowed to.
        """
        self._check_sendable(tensors, masks)
        entries: dict[str, Tensor] = {}
        for spec in self.rows:
            packed = masks.get(spec.under)
            entries |= self._entries_of(spec, tensors[spec.name], packed)
            if own and packed is not None and spec.prunable:
                off = packedmasks.complement(packed, spec.numel)
                entries[OWN + spec.name] = self._gather(tensors[spec.name], off)
        return entries

    def stream(
        self,
        tensors: Mapping[str, Tensor],
        masks: Masks,
        ready: Mapping[str, Tensor] | None = None,
    ) -> TensorStream:
        """Return the stream of what `pack` returns, without making more than one tensor's values at a time.

        Args:
            tensors: as for `pack`.
            masks: as for `pack`.
            ready: entries that are there already, which go in place of those of their tensors.

        Raises:
            ValueError: as `pack`. Its PayloadError comes from the stream.
        """
        self._check_sendable(tensors, masks)
        ready = ready or {}
        entries: dict[str, Tensor | Deferred] = {}
        for spec in self.rows:
            there = {key: ready[key] for key in _keys(spec) if key in ready}
            entries |= there
            if there.keys() - {OWN + spec.name}:
                continue  # all of the tensor is there
            tensor, packed = tensors[spec.name], masks.get(spec.under)
            for key, (dtype, shape) in self._layout_of(spec, packed).items():
                travels_as_it_is = key == DENSE + spec.name and not self._narrows(spec)
                make = partial(self._entry, key, spec, tensor, packed)
                entries[key] = tensor if travels_as_it_is else Deferred(dtype, shape, make)
        return TensorStream(entries)

    def _check_sendable(self, tensors: Mapping[str, Tensor], masks: Masks) -> None:
        _check_known(self.table, masks)
        for spec in self.rows:
            tensor = tensors.get(spec.name)
            if tensor is None:
                raise ValueError(f"{spec.name}: not among the tensors to send")
            if (tensor.dtype, tuple(tensor.shape)) != (spec.dtype, spec.shape):
                raise ValueError(f"{spec.name}: {_form(tensor)}, expected {_expected(spec.dtype, spec.shape)}")

    def _entries_of(self, spec: TensorSpec, tensor: Tensor, packed: PackedMask | None) -> dict[str, Tensor]:
        """Return what travels of a tensor: its values, and their scales if they have some."""
        key = _key(spec, packed)
        if spec.is_bits:
            return {key: _packed_bits(tensor)}
        values = tensor if packed is None else self._gather(tensor, packed)
        if not self._narrows(spec):
            return {key: values}
        try:
            values, scales = quantize(values, self.wire_dtype)
        except ValueError as error:
            raise PayloadError(f"{key}: {error}") from error
        return {key: values} if scales is None else {key: values, SCALE + spec.name: scales}

    def _entry(self, key: str, spec: TensorSpec, tensor: Tensor, packed: PackedMask | None) -> Tensor:
        return self._entries_of(spec, tensor, packed)[key]

    def unpack(self, entries: Mapping[str, Tensor], masks: Masks, *, own: bool = False) -> dict[str, Tensor]:
        """Return all tensors of the table, whole, with exact zeros where a mask prunes.

        Dense ones that were not narrowed are the entries themselves: views of the payload's memory.

        Raises:
            PayloadError: as `check`.
            ValueError: `masks` names a tensor that the table has not.
        """
        self.check(entries, masks, own=own)
        return {spec.name: _whole(spec, entries, masks.get(spec.under)) for spec in self.rows}

    def unpack_into(
        self,
        entries: Mapping[str, Tensor],
        masks: Masks,
        tensors: Mapping[str, Tensor],
        *,
        own: bool = False,
    ) -> None:
        """Write all tensors of the table into those of a model, in place, as `unpack` would return them.

        No masked tensor is made whole on the way, and only what has travelled goes to another device.

        Args:
            entries: what arrived.
            masks: by name.
            tensors: of the table's names, dtypes and shapes, as `common.pruning.parameters.named_tensors` gives them.
            own: the values off the masks have come, too.

        Raises:
            PayloadError: as `check`; nothing has been written then.
            ValueError: `masks` names a tensor that the table has not.
        """
        self.check(entries, masks, own=own)
        for spec in self.rows:
            tensor, packed = tensors[spec.name], masks.get(spec.under)
            if packed is not None and not own and tensor.is_contiguous():
                positions = self._positions(packed, tensor.device)
                packedmasks.scatter(_values(spec, entries, packed, tensor.device), packed, tensor, positions)
            else:
                tensor.copy_(_whole(spec, entries, packed, tensor.device))

    def _gather(self, tensor: Tensor, packed: PackedMask) -> Tensor:
        return packedmasks.gather(tensor, packed, self._positions(packed, tensor.device))

    def _positions(self, packed: PackedMask, device: torch.device) -> packedmasks.Positions | None:
        return self.positions.of(packed) if self.positions is not None and device.type == "cpu" else None

    def check(self, entries: Mapping[str, Tensor], masks: Masks, *, own: bool = False) -> None:
        """Check received entries without building a dense tensor: in bounded memory over a mapped file.

        Entries of masks are left to `unpack_mask_update`.

        Raises:
            PayloadError: an entry is missing or unexpected, its dtype or shape is not what table, mask and wire
                dtype say, or a value is not finite, and not θ_0's own, or stands for one that is not.
            ValueError: `masks` names a tensor that the table has not.
        """
        _check_known(self.table, masks)
        expected = self._layout(masks, own=own)
        _check_layout(entries, expected)
        values = {key: entries[key] for key in expected}
        if not all_finite(values.values()):
            for key, tensor in values.items():
                self._check_finite(key, tensor)
        for spec in self.rows:
            if spec.is_bits:
                _check_bits(spec, entries[BITS + spec.name])
            scale = SCALE + spec.name
            if scale in expected:
                _check_range(scale, entries[scale], 0, MAX_SCALE)
                key = _key(spec, masks.get(spec.under))
                _check_range(key, entries[key], -LEVELS, LEVELS)

    def _layout(self, masks: Masks, *, own: bool) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Return dtype and shape of every entry but masks."""
        layout: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        for spec in self.rows:
            packed = masks.get(spec.under)
            layout |= self._layout_of(spec, packed)
            if own and packed is not None and spec.prunable:
                layout[OWN + spec.name] = (spec.dtype, (spec.numel - packedmasks.count(packed),))
        return layout

    def _layout_of(self, spec: TensorSpec, packed: PackedMask | None) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        shape = spec.shape if packed is None else (packedmasks.count(packed),)
        key = _key(spec, packed)
        if spec.is_bits:
            return {key: (torch.uint8, (packedmasks.packed_size(spec.numel),))}
        if not self._narrows(spec):
            return {key: (spec.dtype, shape)}
        values = (DTYPES[self.wire_dtype], shape)
        if self.wire_dtype != "int8":
            return {key: values}
        return {key: values, SCALE + spec.name: (torch.float32, (number_of_scales(prod(shape)),))}

    def _check_finite(self, key: str, tensor: Tensor) -> None:
        if all_finite([tensor]):
            return
        name = plain_name(key)
        is_free = self.table[name].role in ("buffer", "frozen")
        flat, allowed = tensor.reshape(-1), self.initial().get(name) if is_free else None
        if allowed is not None and allowed.shape != tensor.shape:  # a θ_0 that is damaged
            allowed = None
        for start in range(0, flat.numel(), packedmasks.BLOCK):
            block = flat[start : start + packedmasks.BLOCK]
            fine = block.isfinite()
            if allowed is not None:
                own = allowed.reshape(-1)[start : start + packedmasks.BLOCK]
                fine |= (block == own) | (block.isnan() & own.isnan())
            bad = fine.logical_not_().nonzero()
            if len(bad):
                index = start + int(bad[0])
                expected = "finite, or as in θ_0" if is_free else "finite"
                raise PayloadError(f"{key}: value {float(flat[index])} at flat index {index}, expected {expected}")

    def _narrows(self, spec: TensorSpec) -> bool:
        return not self.is_lossless and spec.prunable and spec.dtype is torch.float32


def check_model(table: TensorTable, tensors: Mapping[str, Tensor], initial: Initial) -> None:
    """Check a whole model, by plain name, against its table.

    Args:
        table: of the model, and of those of its strategy's tensors that its file holds.
        tensors: the model.
        initial: θ_0, which may be the model itself.

    Raises:
        PayloadError: a tensor is missing or unexpected, its dtype or shape is not the table's, or a value is not
            finite, and not θ_0's own.
    """
    # In files, what travels as bits is as it is.
    stored = (TensorSpec(s.name, s.dtype, s.shape, "buffer", prunable=False) if s.is_bits else s for s in table.lasting)
    entries = {DENSE + name: tensor for name, tensor in tensors.items()}
    WireFormat(TensorTable(tuple(stored)), "float32", initial).check(entries, {})


def _key(spec: TensorSpec, packed: PackedMask | None) -> str:
    return (BITS if spec.is_bits else DENSE if packed is None else KEPT) + spec.name


def _keys(spec: TensorSpec) -> tuple[str, ...]:
    return tuple(prefix + spec.name for prefix in (KEPT, DENSE, SCALE, OWN, BITS))


def _values(spec: TensorSpec, entries: Mapping[str, Tensor], packed: PackedMask | None, device: torch.device) -> Tensor:
    """Return what has travelled of a tensor, in its own dtype."""
    values, scales = entries[_key(spec, packed)].to(device), entries.get(SCALE + spec.name)
    if spec.is_bits:
        return _of_bits(values, spec.shape)
    if values.dtype is spec.dtype:
        return values
    return dequantize(values, None if scales is None else scales.to(device))


def _whole(
    spec: TensorSpec, entries: Mapping[str, Tensor], packed: PackedMask | None, device: torch.device = packedmasks.CPU
) -> Tensor:
    values = _values(spec, entries, packed, device)
    if packed is None:
        return values
    whole = torch.empty(spec.shape, dtype=spec.dtype, device=device)
    packedmasks.scatter(values, packed, whole)
    if (own := entries.get(OWN + spec.name)) is not None:
        off = packedmasks.unpack(packedmasks.complement(packed, spec.numel), spec.shape, device)
        whole.masked_scatter_(off, own.to(device))
    return whole


def _packed_bits(tensor: Tensor) -> Tensor:
    """Return the bits of a bool tensor, where it is."""
    return torch.from_numpy(packedmasks.pack(tensor)) if tensor.device.type == "cpu" else packedmasks.bits_of(tensor)


def _of_bits(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the bool tensor of bits, where they are."""
    return packedmasks.unpack(bits.numpy(), shape) if bits.device.type == "cpu" else packedmasks.mask_of(bits, shape)


def _check_bits(spec: TensorSpec, bits: Tensor) -> None:
    used = spec.numel % 8
    if used and (last := int(bits[-1])) >> used:
        key = BITS + spec.name
        raise PayloadError(f"{key}: last byte 0x{last:02x}: bits from {used} on must be zero in {spec.numel} elements")


def _check_layout(entries: Mapping[str, Tensor], expected: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
    for key in entries:
        if key not in expected and not is_of_mask(key):
            raise PayloadError(f"{quoted(key)}: unexpected: not what the model's table and the mask say")
    for key, (dtype, shape) in expected.items():
        if key not in entries:
            raise PayloadError(f"{key}: missing")
        if (entries[key].dtype, tuple(entries[key].shape)) != (dtype, shape):
            raise PayloadError(f"{key}: {_form(entries[key])}, expected {_expected(dtype, shape)}")


def _check_known(table: TensorTable, masks: Masks) -> None:
    unknown = masks.keys() - {spec.name for spec in table}
    if unknown:
        raise ValueError(f"{min(unknown)}: has a mask, but is not in the model's table")


def _check_range(key: str, tensor: Tensor, least: float, most: float) -> None:
    if tensor.numel() == 0:
        return
    for extreme in map(float, torch.aminmax(tensor)):
        if not least <= extreme <= most:
            raise PayloadError(f"{key}: value {extreme:g}, expected {least:g} to {most:g}")


def _form(tensor: Tensor) -> str:
    return _expected(tensor.dtype, tensor.shape)


def _expected(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{dtype} of shape {list(shape)}"
