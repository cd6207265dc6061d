"""What the logs of jobs say in the end."""

from contextlib import suppress
from pathlib import Path

from lotteryfl.common.logs import as_text

_OWN_WORD = "lotteryfl: "
"""What a line begins with by which the program says why it ends."""
_MOST_BYTES = 64 << 10


def last_error(log: Path) -> str:
    """Return the last line by which the program has said why it ends; '': there is none."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _MOST_BYTES))
        for line in reversed(file.read().decode(errors="replace").splitlines()):
            text = as_text(line)
            if text.startswith(_OWN_WORD):
                return text.removeprefix(_OWN_WORD)
    return ""
