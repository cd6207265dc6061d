"""Where a run is looked at: its directory or its coordinator, as people name them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.seeing.look import Source


@contextmanager
def source_of(where: str, security: ChannelSecurity) -> Iterator[Source]:
    """Open what a run is looked at by; what only one of the two needs is imported for it alone.

    Raises:
        LotteryFLError: it is neither.
    """
    if Path(where).is_dir():
        from lotteryfl.seeing.directory import DirectorySource

        yield DirectorySource(Path(where))
    elif ":" in where:
        from lotteryfl.seeing.coordinator import CoordinatorSource

        with CoordinatorSource(where, security) as source:
            yield source
    else:
        raise LotteryFLError(f"{where}: neither a run directory nor HOST:PORT")
