"""What a launch has written down for other processes, read by these: bounded, and never taken for anything but data."""

from pathlib import Path
from typing import TypeVar

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.tables import explained
from lotteryfl.common.section import Section

S = TypeVar("S", bound=Section)


def read_section(path: Path, kind: type[S], most_bytes: int) -> S:
    """Read one file of JSON.

    Raises:
        LotteryFLError: it is not there, too large, or damaged.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise LotteryFLError(f"{path}: expected at most {most_bytes} bytes")
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise LotteryFLError(f"{path}: cannot be read: {error}") from error
    with explained(kind, str(path), resolved=True):
        return kind.model_validate_json(text)
