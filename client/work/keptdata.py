"""Clients' data that stays on the device between assignments, as far as the worker's operator allows."""

from collections import OrderedDict
from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset

from lotteryfl.common.accelerators import DeviceMemory, device_memory, is_accelerator
from lotteryfl.common.memory.bounds import Bound, device_bound
from lotteryfl.common.tasks import ClientData, Task
from lotteryfl.common.tasks.parts import is_in_memory
from lotteryfl.common.training.structure import Rows, mapped, tensors_in


class KeptData:
    """Gives clients' data; what is tensors in memory is kept within a bound, the least recently used goes first.

    A client's data is the same at every assignment, and nobody writes into it: batches are copies.
    """

    def __init__(self, task: Task, device: torch.device, most: int | None) -> None:
        """Keep nothing yet.

        Args:
            task: whose data.
            device: where it is kept.
            most: bytes, of all clients together; None: what leaves half of the device's own memory free, whoever else
                works there, and what the work has taken; nothing where the device has none of its own.
        """
        self._task = task
        self._device = device
        self._most = most if most is not None or is_accelerator(device) else 0
        self._taken = 0
        self._kept: OrderedDict[int, ClientData] = OrderedDict()
        self.nbytes = 0
        """What is kept now."""

    def of(self, client: int) -> ClientData:
        """Return one client's data.

        Raises:
            TaskError: it cannot be had.
        """
        if client in self._kept:
            self._kept.move_to_end(client)
            return self._kept[client]
        data = self._task.client_data(client)
        size = None if self._most == 0 else _size(data)
        if size is None or not self._has_room(size):
            return data
        kept = ClientData(*(_moved(part, self._device) for part in vars(data).values()))
        self._kept[client] = kept
        self.nbytes += size
        return kept

    def room(self) -> Bound | None:
        """Return what of the device's memory is not taken by what is kept; None: it has none of its own.

        Raises:
            DeviceGoneError: it does not answer.
        """
        bound = device_bound(self._device)
        return bound and Bound(max(0, bound.nbytes - self.nbytes), bound.source)

    def note_taken(self, nbytes: int) -> None:
        """Leave so much of the device free from now on, if it is not more already: an assignment has taken it."""
        self._taken = max(self._taken, nbytes)

    def clear(self) -> None:
        """Keep nothing any more."""
        self._kept.clear()
        self.nbytes = 0

    def _has_room(self, size: int) -> bool:
        """Say whether so much more may be kept, and where the bound is set, forget what has to go for it."""
        if self._most is None:
            return size <= spare(device_memory(self._device), self._taken)
        if size > self._most:
            return False
        while self.nbytes + size > self._most:
            self._forget(next(iter(self._kept)))
        return True

    def _forget(self, client: int) -> None:
        self.nbytes -= _size(self._kept.pop(client)) or 0


def spare(memory: DeviceMemory | None, taken: int) -> int:
    """Return the bytes that what only saves time may still take of a device.

    Args:
        memory: of the device; None: it has none of its own, and none is to spare.
        taken: what has to stay free, where that is more than half of all.
    """
    return 0 if memory is None else max(0, memory.to_be_had - max(memory.total // 2, taken))


def _size(data: ClientData) -> int | None:
    """Return the bytes of a client's data; None: it is not all in memory."""
    parts = vars(data).values()
    if not all(map(is_in_memory, parts)):
        return None
    first = [(len(part), part[:1]) for part in parts]
    return sum(count * tensor.nbytes for count, one in first for tensor in tensors_in(one))


def _moved(part: Dataset[Any], device: torch.device) -> Dataset[Any]:
    content = mapped(lambda tensor: tensor.to(device), _content(part))
    return TensorDataset(*content) if isinstance(part, TensorDataset) else Rows(content)


def _content(part: Any) -> Any:
    return part.tensors if isinstance(part, TensorDataset) else part.content
