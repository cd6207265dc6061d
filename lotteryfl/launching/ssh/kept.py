"""What a keeper writes down of itself for those who follow it, and how they know that it is there.

keeper.json    where the launch stands, and what has happened to its hosts
keeper.lock    held by the keeper for as long as it lives; says its process number
"""

from contextlib import suppress
from pathlib import Path
from typing import IO

from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.common.disk.heldfile import hold, is_held
from lotteryfl.common.section import Section
from lotteryfl.launching.launcher import Stage
from lotteryfl.launching.written import read_section

_MOST_NEWS = 100
_MOST_BYTES = 1 << 20


class Kept(Section):
    """Where a launch stands."""

    stage: Stage = Stage.WAITING
    why: str = ""
    """What is waited for, or how it has ended."""
    code: int = 0
    """The coordinator's exit code, once it has ended."""
    told: int = 0
    """How many lines of news there have been."""
    news: tuple[str, ...] = ()
    """The last of them."""

    def with_news(self, line: str) -> "Kept":
        """Return the same with one more line."""
        return self.model_copy(update={"told": self.told + 1, "news": (*self.news, line)[-_MOST_NEWS:]})

    def news_after(self, told: int) -> tuple[str, ...]:
        """Return the lines after the first so many, as far as they are still known."""
        new = self.told - told
        return self.news[-new:] if new > 0 else ()


class KeptFiles:
    """The keeper's files in the folder of its launch."""

    def __init__(self, folder: Path) -> None:
        """Set where they are."""
        self._state = folder / "keeper.json"
        self._lock = folder / "keeper.lock"

    def write(self, kept: Kept) -> None:
        """Write down where the launch stands."""
        write_text(self._state, kept.model_dump_json())

    def read(self) -> Kept:
        """Return what was written down last.

        Raises:
            LotteryFLError: nothing was, or the file is damaged.
        """
        return read_section(self._state, Kept, _MOST_BYTES)

    def hold(self, number: int) -> IO[bytes]:
        """Be the keeper, until the file is closed.

        Args:
            number: of this process.

        Raises:
            LotteryFLError: another process is.
        """
        handle = hold(self._lock, f"{self._lock}: another process keeps this launch")
        handle.truncate(0)
        handle.write(str(number).encode())
        return handle

    def keeper(self) -> int | None:
        """Return the number of the process that is the keeper; None: there is none."""
        with suppress(FileNotFoundError):
            if is_held(self._lock):
                number = self._lock.read_text()[:20]
                return int(number) if number.isdecimal() else None
        return None

    def forget(self) -> None:
        """Remove them."""
        self._state.unlink(missing_ok=True)
        self._lock.unlink(missing_ok=True)
