"""Ten results of 11 M parameters at density 0.2, from files to the new global model."""

import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.harness import (
    Row,
    Spread,
    at_least,
    at_most,
    constant,
    interleaved,
    seconds,
    share,
    times_less,
)
from benchmarks.inputs import MODELS, random_masks, random_tensors
from benchmarks.peakmemory import MIB, extra_memory
from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.tensors.file import open_file, save
from lotteryfl.common.tensors.partfile import PartFile
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.payload import mask_tensors
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.aggregation.aggregate import aggregate
from lotteryfl.server.aggregation.maskfile import MaskFile
from lotteryfl.server.aggregation.update import Update, ahead_of_each

Bytes = npt.NDArray[np.uint8]

DENSITY = 0.2


@dataclass(frozen=True)
class Sizes:
    """How many results of which model are put together, and how often."""

    clients: int
    model: str
    repeats: int


FULL = Sizes(clients=10, model="11 M", repeats=5)
QUICK = Sizes(clients=3, model="1.9 M", repeats=1)


class Spool:
    """A round's results in files: as the coordinator has them, and as dense models."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self._folder = folder
        self.clients = sizes.clients
        self.table = TensorTable.of(MODELS[sizes.model]())

    def write(self) -> None:
        """Draw the results at random."""
        save(self._folder / "old", random_tensors(self.table, seed=self.clients))
        for client in range(self.clients):
            masks, values = random_masks(self.table, DENSITY, client), random_tensors(self.table, client)
            save(self._folder / f"mask{client}", mask_tensors(masks))
            save(self._folder / f"result{client}", WireFormat(self.table, "float32").pack(values, masks))
            dense = {f"{name}_mask": unpack(bits, self.table[name].shape).float() for name, bits in masks.items()}
            torch.save(values | dense, self._folder / f"dense{client}")

    @property
    def old(self) -> dict[str, Tensor]:
        """The global model that the clients started from."""
        return open_file(self._folder / "old")

    @property
    def updates(self) -> list[Update]:
        """The results, in their files as those of a round are."""
        ahead = ahead_of_each(self.clients)
        return [
            Update(
                client,
                1 + client,
                MaskFile(self.table, self._folder / f"mask{client}", ahead),
                PartFile(self._folder / f"result{client}", ahead=ahead),
            )
            for client in range(self.clients)
        ]

    def dense(self, *, mapped: bool) -> list[dict[str, Tensor]]:
        """Return the results as models with float32 masks, read or mapped."""
        paths = (self._folder / f"dense{client}" for client in range(self.clients))
        return [torch.load(path, mmap=mapped, weights_only=True) for path in paths]

    def copy(self, buffer: Bytes) -> int:
        """Copy the bytes of the results through a buffer in the cache; return how many."""
        copied = 0
        for path in [*self._folder.glob("mask*"), *self._folder.glob("result*")]:
            data = np.memmap(path, mode="r")
            copied += data.size
            for start in range(0, data.size, buffer.size):
                part = data[start : start + buffer.size]
                np.copyto(buffer[: part.size], part)
        return copied


def ours(spool: Spool) -> None:
    """Aggregate; every tensor is let go as soon as it is there."""
    deque(aggregate(spool.table, spool.old, spool.updates), maxlen=0)


def stacked(spool: Spool, *, mapped: bool = False) -> dict[str, Tensor]:
    """Aggregate as it is usually written: stack the dense models, and the masks where there are any."""
    dense, new = spool.dense(mapped=mapped), {}
    examples = torch.arange(1.0, 1 + spool.clients)
    for name, old in spool.old.items():
        weights = examples.view(-1, *[1] * old.dim())
        if f"{name}_mask" in dense[0]:
            weights = weights * torch.stack([model[f"{name}_mask"] for model in dense])
        values, total = torch.stack([model[name] for model in dense]), weights.sum(dim=0)
        new[name] = torch.where(total > 0, (values * weights).sum(dim=0) / total, old).to(old.dtype)
    return new


def rows(sizes: Sizes) -> list[Row]:
    """Time, share of the memory's speed, memory."""
    with tempfile.TemporaryDirectory() as name:
        spool = Spool(Path(name), sizes)
        spool.write()
        buffer = np.empty(MIB, np.uint8)
        times = interleaved(
            sizes.repeats,
            ours=seconds(partial(ours, spool)),
            stacked=seconds(partial(stacked, spool)),
            mapped=seconds(partial(stacked, spool, mapped=True)),
            copied=seconds(partial(spool.copy, buffer)),
        )
        gigabytes = spool.copy(buffer) / 1e9
        speeds = {name: Spread(tuple(gigabytes / time for time in times[name].values)) for name in times}
        memory, stack_memory = (
            constant(extra_memory(partial(_prepared, Path(name), sizes, work)) / MIB) for work in (ours, stacked)
        )
        largest = constant(max(spec.nbytes for spec in spool.table) / MIB)
    label = f"aggregate {sizes.clients} × {sizes.model} at density {DENSITY}"
    stack = "torch.load, torch.stack of dense models"
    return [
        times_less(label, times["ours"], times["stacked"], stack, "s", at_least(10)),
        times_less(label, times["ours"], times["mapped"], "the same with mmap=True", "s"),
        share(f"{label}: results read", speeds["ours"], speeds["copied"], "copying their bytes", "GB/s"),
        share(f"{label}: memory", memory, largest, "largest tensor", "MiB", at_most(2)),
        times_less(f"{label}: memory", memory, stack_memory, stack, "MiB"),
    ]


def _prepared(folder: Path, sizes: Sizes, work: Callable[[Spool], object]) -> Callable[[], object]:
    return partial(work, Spool(folder, sizes))
