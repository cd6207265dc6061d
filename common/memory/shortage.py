"""Memory that runs out in an assignment's work: recognised whoever says so, and named with what there was."""

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence

import torch

from lotteryfl.common.errors import ClientError, ShortOfMemoryError, TaskError
from lotteryfl.common.memory.bounds import Bound
from lotteryfl.common.owncode.usercode import belonging_to

_SAYINGS = (
    "out of memory",  # "CUDA error: out of memory", "MPS backend out of memory"
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "BLAS_STATUS_ALLOC_FAILED",  # of CUDA's and ROCm's
    "DNN_STATUS_ALLOC_FAILED",
)
"""What a RuntimeError of torch says where it is of no class of its own."""


class NoRoomError(TaskError):
    """The work takes more than there is, as far as can be said before it begins; the message names both."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or what it was raised from, is that memory ran out, or would have."""
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError, NoRoomError)):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and any(saying in str(error) for saying in _SAYINGS):
            return True
        error = error.__cause__
    return False


@contextlib.contextmanager
def shortage_named(
    clients: int | Sequence[int], task: str, counted: Callable[[], str], left: Callable[[], Bound]
) -> Iterator[None]:
    """Let memory that runs out in the block be named in one line, as a client's error; others pass as they are.

    Args:
        clients: whose work it is, as for `belonging_to`.
        task: its name.
        counted: says what the work was thought to take; empty: that was not known yet.
        left: says what there is.

    Raises:
        ShortOfMemoryError: memory ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        named = _as_a_clients(error, clients, task)
        if isinstance(named.__cause__, NoRoomError):  # which has said it all
            raise ShortOfMemoryError(str(named), named.told) from error
        needed = f"the work was counted as {counted()}, and " if counted() else ""
        raise ShortOfMemoryError(f"{named}; {needed}there are {left()}", named.told) from error


def _as_a_clients(error: Exception, clients: int | Sequence[int], task: str) -> ClientError:
    if isinstance(error, ClientError):
        return error
    try:
        with belonging_to(clients, task):
            raise error
    except ClientError as named:
        return named
