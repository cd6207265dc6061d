"""Tensors from the host to a device and back: many small ones as one copy, and nobody waits for what goes there.

What CUDA is to copy while the program goes on has to lie in pinned memory, of which torch holds a store.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from lotteryfl.common.accelerators import device_memory

_TOGETHER = 16 << 20
"""Bytes that are copied together, at most; a tensor that is larger goes by itself."""

_PINNED = 64 << 20
"""Bytes of the largest tensor, a batch, that goes through pinned memory."""


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; what comes from the host is on its way there, and used in its turn."""
    if device.type != "cuda" or tensor.device.type != "cpu" or tensor.nbytes > _PINNED:
        return tensor.to(device)
    # What is pinned already is somebody's, who may write into it before the copy has been made.
    return tensor.pin_memory().to(device, non_blocking=not tensor.is_pinned())


def to_device(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return tensors on a device: those that are there as they are, others as parts of what was sent together."""
    there = {name: tensor for name, tensor in tensors.items() if tensor.device.type == device.type}
    here = {name: tensor for name, tensor in tensors.items() if name not in there}
    there |= copied_together(here, partial(_sent_together, device=device))
    return {name: there[name] for name in tensors}


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the CPU: those that are there as they are, others as parts of what was fetched together."""
    here = {name: tensor for name, tensor in tensors.items() if tensor.device.type == "cpu"}
    there = {name: tensor for name, tensor in tensors.items() if name not in here}
    here |= copied_together(there, _fetched_together)
    for device in {tensor.device for tensor in there.values() if tensor.device.type == "cuda"}:
        torch.cuda.current_stream(device).synchronize()
    return {name: here[name] for name in tensors}


def copied_together(tensors: Mapping[str, Tensor], copy: Callable[[list[Tensor]], Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors, small ones of a dtype made as one.

    Args:
        tensors: by name.
        copy: makes one of flat tensors, one after the other.
    """
    copies: dict[str, Tensor] = {}
    for names in _groups(tensors):
        flat = [tensors[name].detach().reshape(-1) for name in names]
        parts = torch.split(copy(flat), [part.numel() for part in flat])
        copies.update((name, part.view(tensors[name].shape)) for name, part in zip(names, parts, strict=True))
    return copies


def copy_into(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into tensors in place, by name, wherever either are; to a device many at a time."""
    for device in {target.device for target in targets.values()}:
        there = {name: target for name, target in targets.items() if target.device == device}
        for name, value in to_device({name: values[name] for name in there}, device).items():
            there[name].copy_(value)


def fetched_counts(counts: Iterable[Tensor]) -> list[int]:
    """Return integers of shape () that may still be computed somewhere, waited for once."""
    waiting = list(counts)
    return torch.stack([count.to(waiting[0].device) for count in waiting]).tolist() if waiting else []


def home_of(tensors: Iterable[Tensor], device: torch.device) -> torch.device:
    """Return where tensors are to lie that are worked on piece by piece on a device: there, if they take little of it.

    That is at most half of what is free; what is there already takes nothing.
    """
    needed = sum(tensor.nbytes for tensor in tensors if tensor.device.type != device.type)
    memory = device_memory(device) if needed else None
    return device if memory is None or needed <= memory.to_be_had // 2 else torch.device("cpu")


def _groups(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Yield names of tensors that one copy is made of."""
    by_kind: defaultdict[tuple[torch.dtype, torch.device], list[str]] = defaultdict(list)
    sizes: defaultdict[tuple[torch.dtype, torch.device], int] = defaultdict(int)
    for name, tensor in tensors.items():
        kind = (tensor.dtype, tensor.device)
        if tensor.nbytes > _TOGETHER:
            yield [name]
            continue
        if sizes[kind] + tensor.nbytes > _TOGETHER:
            yield by_kind.pop(kind)
            sizes[kind] = 0
        by_kind[kind].append(name)
        sizes[kind] += tensor.nbytes
    yield from by_kind.values()


def _sent_together(flat: list[Tensor], device: torch.device) -> Tensor:
    """Return flat tensors as one on a device; on their way to CUDA they are written once, into pinned memory."""
    if len(flat) == 1 or device.type != "cuda":
        return sent(torch.cat(flat) if len(flat) > 1 else flat[0], device)
    pinned = torch.empty(sum(part.numel() for part in flat), dtype=flat[0].dtype, pin_memory=True)
    return torch.cat(flat, out=pinned).to(device, non_blocking=True)


def _fetched_together(flat: list[Tensor]) -> Tensor:
    """Return flat tensors as one on the CPU; from CUDA they are on their way."""
    together = torch.cat(flat) if len(flat) > 1 else flat[0]
    if together.device.type != "cuda" or together.nbytes > _TOGETHER:
        return together.cpu()
    return torch.empty(together.shape, dtype=together.dtype, pin_memory=True).copy_(together, non_blocking=True)
