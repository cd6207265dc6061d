"""A client's masks in their file, read block by block: a round has as many of them as results."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.packedmasks import PackedMask, packed_size
from lotteryfl.common.tensors.partfile import PartFile
from lotteryfl.common.text import quoted
from lotteryfl.common.wire.payload import MASK
from lotteryfl.common.wire.table import TensorTable


class MaskFile(Mapping[str, PackedMask]):
    """The masks of a file, by name of the tensor; what is read of them is checked."""

    def __init__(self, table: TensorTable, path: Path, ahead: int = 0) -> None:
        """Read which masks there are.

        Args:
            table: of the model.
            path: of the file.
            ahead: as of `PartFile`.

        Raises:
            PayloadError: the file is not strictly a safetensors file, or has what is no mask of the model.
            OSError: it cannot be read.
        """
        self._file = PartFile(path, ahead=ahead)
        self._table = table
        for key in self._file:
            name = key.removeprefix(MASK)
            if name == key or name not in table or not table[name].prunable:
                raise PayloadError(f"{path}: {quoted(key)}: unexpected: not the mask of a prunable tensor of the model")
            size, dtype, expected = self._file.numel(key), self._file.dtype(key), packed_size(table[name].numel)
            if (dtype, size) != (torch.uint8, expected):
                raise PayloadError(
                    f"{path}: {quoted(key)}: {dtype} of {size} elements, expected {expected} bytes of bits"
                )

    def __getitem__(self, name: str) -> PackedMask:
        return self.part(name, 0, self._table[name].numel)

    def __contains__(self, name: object) -> bool:
        return f"{MASK}{name}" in self._file

    def __iter__(self) -> Iterator[str]:
        return (key.removeprefix(MASK) for key in self._file)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def part(self, name: str, start: int, size: int) -> PackedMask:
        """Return the mask of some elements.

        Args:
            name: of the tensor.
            start: the first of the elements, a multiple of 8.
            size: how many they are; not a multiple of 8 only where the mask ends.

        Raises:
            PayloadError: it is not the mask of so many elements.
        """
        key = MASK + name
        bits = self._file.read(key, start // 8, packed_size(start + size)).numpy()
        packedmasks.check(bits, size, key)
        return bits
