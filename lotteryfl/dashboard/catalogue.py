"""The runs that are shown, by the names that they have in addresses."""

import asyncio
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lotteryfl.dashboard.answers import as_json
from lotteryfl.dashboard.live import Live
from lotteryfl.dashboard.watched import WatchedRun
from lotteryfl.server.store.findruns import find_runs, runs_in

_LOOK_SECONDS = 5.0
"""Between two looks for new runs in the folders that were named."""

_LIST_SECONDS = 1.0
"""For which the list stays as it is."""

_IDLE_SECONDS = 30.0
"""After which nothing is held of a run that nobody looks at."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class Catalogue:
    """Run directories, and those right inside the folders that were named."""

    def __init__(self, paths: Sequence[Path], live: Live) -> None:
        """Look for the runs.

        Args:
            paths: run directories, and folders of them.
            live: what a coordinator says of the first of them.

        Raises:
            LotteryFLError: a path neither is nor holds one.
        """
        self._paths = paths
        self._runs: dict[str, WatchedRun] = {}
        self._live = live
        self._next_look = time.monotonic() + _LOOK_SECONDS
        self._list: tuple[float, bytes] = (0.0, b"")
        self._listing = asyncio.Lock()
        self._add(find_runs(paths))

    def look(self) -> None:
        """Look for new runs, where the last look is old."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        self._add(run for path in self._paths for run in runs_in(path))

    def get(self, name: str) -> WatchedRun | None:
        """Return a run by its name."""
        if name not in self._runs:
            self.look()
        return self._runs.get(name)

    def __iter__(self) -> Iterator[WatchedRun]:
        return iter(list(self._runs.values()))

    async def listing(self) -> bytes:
        """Return the list of runs as JSON: made once for all who look."""
        async with self._listing:
            if time.monotonic() >= self._list[0]:
                self.look()
                runs = [await run.brief() for run in self]
                self._list = time.monotonic() + _LIST_SECONDS, as_json({"runs": runs})
            return self._list[1]

    def forget_idle(self) -> bool:
        """Forget what nobody has looked at for a while; tell whether there was any."""
        idle = [run for run in self if run.is_held and time.monotonic() > run.used + _IDLE_SECONDS]
        for run in idle:
            run.forget()
        return bool(idle)

    def _add(self, found: Iterable[Path]) -> None:
        known = {run.path for run in self}
        for path in found:
            if path not in known:
                known.add(path)
                run = WatchedRun(self._name(path), path, Live() if self._runs else self._live)
                self._runs[run.name] = run

    def _name(self, path: Path) -> str:
        plain = _UNSAFE.sub("_", path.resolve().name) or "run"
        taken = (plain, *(f"{plain}-{number}" for number in range(2, len(self._runs) + 2)))
        return next(name for name in taken if name not in self._runs)
