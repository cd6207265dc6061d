"""A file of the run directory as a payload, sent as it is."""

from collections.abc import Iterator
from mmap import ACCESS_READ, MADV_WILLNEED, mmap
from pathlib import Path

from zlib_ng import zlib_ng

from lotteryfl.common.tensors.stream import CHUNK_BYTES, TensorStream, Trailer
from lotteryfl.common.wire.framing import Payload
from lotteryfl.server.store.rundir import RunDirectory


class FileStream:
    """A file as a payload: slices of the mapped file."""

    is_at_hand = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._crc32 = 0
        self.size = path.stat().st_size

    def __iter__(self) -> Iterator[memoryview]:
        self._crc32 = 0
        if not self.size:
            return
        with self._path.open("rb") as file:
            mapped = mmap(file.fileno(), 0, access=ACCESS_READ)
        mapped.madvise(MADV_WILLNEED)  # so that nobody waits for the disk page by page
        content = memoryview(mapped)
        for start in range(0, self.size, CHUNK_BYTES):
            chunk = content[start : start + CHUNK_BYTES]
            self._crc32 = zlib_ng.crc32(chunk, self._crc32)
            yield chunk

    @property
    def trailer(self) -> Trailer:
        """Size and checksum of what was iterated."""
        return Trailer(self.size, self._crc32)


def model_stream(run: RunDirectory, round_: int) -> Payload:
    """Return the global model after a round as a payload: its file, or what of it and of θ_0's is the model's."""
    if run.model_table.frozen or run.model_table.added:
        return TensorStream(run.global_model(round_))
    return FileStream(run.model_path(round_))
