"""A payload that arrives over as many streams as it takes: each goes on where a cut has left the one before."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.tensors.receiver import Receiver
from lotteryfl.common.wire.framing import take
from lotteryfl.protos import lotteryfl_pb2 as pb

T = TypeVar("T")


class CannotResumeError(Exception):
    """A stream goes on with something else than what has arrived: it has to be asked for from its start."""


class Download(Generic[T]):
    """Takes one payload after the other, and remembers what has arrived of the last one."""

    def __init__(self) -> None:
        self.what = ""
        """Names the payload that has arrived in part; empty: there is none."""
        self._receiver: Receiver[T] | None = None

    @property
    def received(self) -> int:
        """Bytes that have arrived of it: the offset to ask for."""
        return 0 if self._receiver is None else self._receiver.received

    def take(
        self, what: str, header: pb.PayloadHeader, parts: Iterator[Any], new_receiver: Callable[[int], Receiver[T]]
    ) -> T:
        """Take the messages of a stream, and return the payload when it is whole.

        Whatever ends the stream before, such as a gRPC error, passes through; what has arrived is kept then.

        Args:
            what: names the payload.
            header: of the stream.
            parts: the messages after it.
            new_receiver: makes a receiver of so many bytes, where the stream starts at the payload's first byte.

        Raises:
            CannotResumeError: the stream starts elsewhere, and not where an earlier one of it has ended.
            PayloadError: the bytes are not what was announced. What has arrived is forgotten, here and above.
        """
        receiver, self._receiver, arrived = self._receiver, None, self.what
        if header.offset == 0:
            receiver = new_receiver(header.size)
        elif receiver is None or (arrived, receiver.size, receiver.received) != (what, header.size, header.offset):
            raise CannotResumeError(what)
        self.what, self._receiver = what, receiver
        whole = None
        try:
            for part in parts:  # to the stream's end: leaving early would cancel the call
                whole = take(receiver, part)
            return receiver.finish(None) if whole is None else whole
        except PayloadError:
            receiver.discard()
            raise
        finally:
            if not receiver.is_open:
                self.what, self._receiver = "", None
