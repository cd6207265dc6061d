"""What is printed and cannot be: a full disk, a closed pipe or a terminal that is gone is an error of one line."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lotteryfl.common.errors import LotteryFLError

_STDIN, _STDOUT, _STDERR = range(3)


class OutputError(LotteryFLError):
    """What is to be printed cannot be."""


class _Output(io.TextIOWrapper):
    """stdout or stderr, in place of Python's own."""

    def __init__(self, stream: io.TextIOWrapper, name: str) -> None:
        super().__init__(
            stream.buffer, stream.encoding, stream.errors, None, stream.line_buffering, stream.write_through
        )
        self._called = name

    def write(self, text: str) -> int:
        """Write as any text stream, but with errors for people."""
        if text == "":  # click asks so whether this is a text stream, and takes an error for an answer
            return 0
        with self._explained():
            return super().write(text)

    def flush(self) -> None:
        """Flush as any text stream, but with errors for people."""
        with self._explained():
            super().flush()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What is still to come, at the latest from Python when it ends, goes nowhere and fails no second time.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            raise OutputError(f"{self._called}: cannot be written: {error.strerror or error}") from error


def prepare_output() -> None:
    """Let whatever prints from now on raise an `OutputError` when it cannot.

    Raises:
        OutputError: stdout is closed.
    """
    if _is_closed(_STDOUT):
        raise OutputError("stdout: is closed; send what is not wanted to /dev/null")
    for number in (_STDIN, _STDERR):
        if _is_closed(number):  # or a file of the run would get this number, and what libraries write to stderr
            os.open(os.devnull, os.O_RDWR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _Output(sys.stdout, "stdout")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _Output(sys.stderr, "stderr")


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
