"""An index file as bytes: its digest is part of the experiment, so that every machine of a run has the same."""

from functools import partial
from itertools import islice
from pathlib import Path

from lotteryfl.common.errors import ExperimentError

_MOST_BYTES = 2**28
"""Ten million indices have 80 MB."""

_CHUNK = 2**20
"""Read at a time: room for all that is asked for would be made first, however short the file is."""


def index_bytes(path: Path) -> bytes:
    """Read an index file.

    Raises:
        ExperimentError: it cannot be read, or is too long for one.
    """
    try:
        with path.open("rb") as file:
            chunks = iter(partial(file.read, _CHUNK), b"")
            content = b"".join(islice(chunks, _MOST_BYTES // _CHUNK + 1))
    except OSError as error:
        raise ExperimentError(f"partition.file = {str(path)!r}: {error.strerror or error}") from error
    if len(content) > _MOST_BYTES:
        raise ExperimentError(f"partition.file = {str(path)!r}: has more than {_MOST_BYTES} bytes, expected fewer")
    return content
