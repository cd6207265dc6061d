"""A safetensors file received straight into tensors: no memory but theirs, and no second pass to copy it."""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from lotteryfl.common.tensors.file import check_bool
from lotteryfl.common.tensors.layout import LENGTH_BYTES, Entry, data_start, read_layout
from lotteryfl.common.tensors.receiver import Receiver

Place = Callable[[Entry], Tensor]
"""Gives the tensor that an entry is received into: on the CPU, contiguous, of the entry's dtype and shape."""


def new_tensor(entry: Entry) -> Tensor:
    """Give every entry memory of its own."""
    return torch.empty(entry.shape, dtype=entry.dtype)


class TensorReceiver(Receiver[dict[str, Tensor]]):
    """Receives a safetensors file into tensors; `finish` returns them by name, in the order of their data.

    What they hold before that is unchecked, and where receiving fails it stays so.

    Args:
        size: bytes announced by the sender.
        limit: most bytes that are taken, known before the sender said anything.
        what: names the payload in errors.
        place: called once for each entry, when the file's header has arrived and has been checked.

    Raises:
        PayloadError: `size` is more than `limit`; nothing has been allocated. `write` and `finish` raise it also
            where the bytes are not strictly a safetensors file, as `common.tensors.file.parse` has it.
    """

    def __init__(self, size: int, limit: int, what: str, place: Place = new_tensor) -> None:
        super().__init__(size, limit, what)
        self._place = place
        self._head = bytearray()
        self._head_size = LENGTH_BYTES
        self._tensors: dict[str, Tensor] = {}
        self._targets: deque[memoryview] = deque()

    def _put(self, chunk: memoryview) -> None:
        while len(self._head) < self._head_size and chunk:
            room = self._head_size - len(self._head)
            self._head += chunk[:room]
            chunk = chunk[room:]
            if len(self._head) == self._head_size:
                self._read_head()
        while chunk:
            target = self._targets.popleft()
            count = min(len(chunk), len(target))
            target[:count] = chunk[:count]
            chunk = chunk[count:]
            if count < len(target):
                self._targets.appendleft(target[count:])

    def _read_head(self) -> None:
        """Learn from what has arrived how long the head is; when it is whole, where its tensors go."""
        if self._head_size == LENGTH_BYTES:
            self._head_size = data_start(self._head, self.size, self._what)
        if len(self._head) < self._head_size:
            return
        for entry in read_layout(self._head, self.size, self._what):
            tensor = self._tensors[entry.name] = self._place(entry)
            if entry.begin < entry.end:
                self._targets.append(_bytes_of(tensor).numpy().data)

    def _complete(self) -> dict[str, Tensor]:
        if len(self._head) < self._head_size:
            data_start(self._head, self.size, self._what)  # raises: a header that is whole needs more bytes
        for name, tensor in self._tensors.items():
            if tensor.dtype is torch.bool and tensor.numel():
                check_bool(_bytes_of(tensor), name, self._what)
        return self._tensors

    def _drop(self) -> None:
        self._tensors = {}
        self._targets.clear()


def _bytes_of(tensor: Tensor) -> Tensor:
    return tensor.detach().view(-1).view(torch.uint8)
