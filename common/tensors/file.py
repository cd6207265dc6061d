"""Safetensors files: written whole or not at all, read without a copy."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from lotteryfl.common.beside import Beside
from lotteryfl.common.disk.atomicfile import AtomicFile
from lotteryfl.common.disk.privatefiles import PRIVATE_FILE
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.names import Digest
from lotteryfl.common.tensors.layout import ALIGNMENT, Entry, data_start, lay_out, read_layout
from lotteryfl.common.tensors.stream import CHUNK_BYTES, data_of
from lotteryfl.common.text import quoted


class Spec(Protocol):
    """What must be known of a tensor before its values are; `common.wire.table.TensorSpec` fits."""

    @property
    def name(self) -> str:
        """Name of the tensor."""

    @property
    def dtype(self) -> torch.dtype:
        """One of `common.tensors.dtypes.DTYPES`."""

    @property
    def shape(self) -> Sequence[int]:
        """Its sizes."""


def save(
    path: Path,
    tensors: Mapping[str, Tensor],
    label: str = "",
    mode: int = PRIVATE_FILE,
    metadata: Mapping[str, str] | None = None,
) -> Digest:
    """Write tensors to a safetensors file that is there whole and on disk, or not at all.

    Args:
        path: of the file; replaced if it exists.
        tensors: by name.
        label: see `AtomicFile`.
        mode: see `AtomicFile`.
        metadata: what the file's header says of the whole.

    Returns:
        The SHA-256 of the file, hexadecimal.

    Raises:
        TypeError, ValueError: as `TensorStream`.
    """
    layout = lay_out(((name, t.dtype, t.shape) for name, t in tensors.items()), metadata)
    return _write(AtomicFile(path, mode, label), *layout, tensors.items())


def save_stream(path: Path, specs: Iterable[Spec], tensors: Iterable[tuple[str, Tensor]], label: str = "") -> Digest:
    """Write tensors as `save` does, one at a time in any order: at most one need be in memory.

    Args:
        path: of the file; replaced if it exists.
        specs: name, dtype and shape of every tensor.
        tensors: (name, tensor), each name of `specs` once.
        label: see `AtomicFile`.

    Returns:
        The SHA-256 of the file, hexadecimal.

    Raises:
        TypeError: as `TensorStream`.
        ValueError: as `TensorStream`; or the tensors are not those of `specs`.
    """
    layout = lay_out((spec.name, spec.dtype, spec.shape) for spec in specs)
    return _write(AtomicFile(path, label=label), *layout, tensors)


def _write(file: AtomicFile, header: bytes, entries: list[Entry], tensors: Iterable[tuple[str, Tensor]]) -> Digest:
    missing = {entry.name: entry for entry in entries}
    with file as part, Beside() as beside:
        digest = _FileDigest(beside)
        part.write(header, 0)
        digest.wrote(header, 0)
        for name, tensor in tensors:
            entry = missing.pop(name, None)
            if entry is None:
                raise ValueError(f"{name}: given twice, or not among the tensors to save")
            if (tensor.dtype, tuple(tensor.shape)) != (entry.dtype, entry.shape):
                raise ValueError(
                    f"{name}: {tensor.dtype} of shape {list(tensor.shape)}, "
                    f"expected {entry.dtype} of shape {list(entry.shape)}"
                )
            data, start = data_of(tensor), len(header) + entry.begin
            part.write(data, start)
            digest.wrote(data, start)
            del tensor, data  # before the next one is made
        if missing:
            raise ValueError(f"{', '.join(missing)}: not given")
        with part.synced_meanwhile():
            return digest.of(part.file)


class _FileDigest:
    """SHA-256 of a file, made while it is written as far as that is in the file's order; the rest is read again."""

    def __init__(self, beside: Beside) -> None:
        self._beside = beside
        self._sha = hashlib.sha256()
        self._end = 0

    def wrote(self, data: bytes | memoryview, start: int) -> None:
        """Take what was written from a byte of the file on."""
        if start == self._end:
            self._end += len(data)
            self._beside.give(len(data), partial(self._sha.update, data))

    def of(self, file: FileIO) -> Digest:
        """Return the digest of the file, which is whole."""
        self._beside.finish()
        file.seek(self._end)
        while rest := file.read(CHUNK_BYTES):
            self._sha.update(rest)
        return Digest(self._sha.hexdigest())


def open_file(path: Path, what: str = "") -> dict[str, Tensor]:
    """Map a safetensors file into memory and return its tensors, zero-copy.

    The mapping is private and lives as long as any of the tensors: what is written to one does not reach the
    file, and the file may be renamed or unlinked, but not truncated, meanwhile.

    Args:
        path: of the file.
        what: names it in errors that others are to read; without, it is the path.

    Raises:
        PayloadError: the file is not strictly a safetensors file.
        OSError: it cannot be read.
    """
    what, size = what or str(path), path.stat().st_size
    if size == 0:
        raise PayloadError(f"{what}: the file is empty")
    # Unlike Python's own mmap this holds no file descriptor, of which a round's results would need many.
    mapping = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    return parse(mapping.numpy().data, what)


def parse(buffer: bytes | bytearray | memoryview, what: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file in memory as views of it, in the order of their data.

    The views keep the buffer alive. Those of a read-only buffer must not be written to.

    Args:
        buffer: the whole file. Copied when it does not start at an address that is a multiple of 8.
        what: names the file in errors.

    Raises:
        PayloadError: the bytes are not strictly a safetensors file of known dtypes, without holes, overlaps,
            duplicate names or misaligned tensors.
    """
    view = memoryview(buffer).cast("B")
    raw = np.frombuffer(view, np.uint8) if view.nbytes else np.empty(0, np.uint8)
    if raw.ctypes.data % ALIGNMENT:
        raw = raw.copy()
    start = data_start(view, view.nbytes, what)
    entries = read_layout(view[:start], view.nbytes, what)
    whole = from_dlpack(raw)  # unlike from_numpy it takes read-only memory without a warning
    return {entry.name: _view(whole, start, entry, what) for entry in entries}


def _view(whole: Tensor, start: int, entry: Entry, what: str) -> Tensor:
    if entry.begin == entry.end:
        return torch.empty(entry.shape, dtype=entry.dtype)
    data = whole[start + entry.begin : start + entry.end]
    if entry.dtype is torch.bool:
        check_bool(data, entry.name, what)
    return data.view(entry.dtype).view(entry.shape)


def check_bool(data: Tensor, name: str, what: str) -> None:
    """Refuse bytes (uint8) that torch would not have in a bool tensor.

    Raises:
        PayloadError: one of them is neither 0 nor 1.
    """
    if (largest := int(data.max())) > 1:
        raise PayloadError(f"{what}: {quoted(name)}: byte {largest}, expected 0 or 1 in a BOOL tensor")
