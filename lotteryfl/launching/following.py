"""A launch from its start to its end, as whoever called for it sees it. Knows no kind of place."""

import asyncio
import contextlib
import shlex
import threading
from collections.abc import AsyncIterator, Callable, Iterator

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.text import printable
from lotteryfl.exitcodes import LEFT_OUT
from lotteryfl.launching.launcher import Launcher, Looking, Stage, Standing
from lotteryfl.seeing.printing import print_looks
from lotteryfl.seeing.source import source_of

SECONDS = 1.0
"""Between two questions where a launch stands, unless its kind asks less often by itself."""

_TROUBLE_SECONDS = 120.0
"""For how long nobody may know where a launch stands before following it is given up."""

_LAST_SECONDS = 10.0
"""How long the last lines of a run that has ended are waited for."""


async def bring_up(launcher: Launcher, tell_begun: Callable[[], None]) -> None:
    """Check, begin the folder, and start everything; what fails half-way is taken away again.

    Args:
        launcher: of it.
        tell_begun: is called once there is a folder, and before anything is started.

    Raises:
        LotteryFLError: something is wrong, or could not be started.
    """
    launcher.check()
    async with begun(launcher):
        tell_begun()
        await launcher.up()


@contextlib.asynccontextmanager
async def begun(launcher: Launcher) -> AsyncIterator[None]:
    """Begin the folder for what the block starts; what fails half-way is taken away again.

    Raises:
        LotteryFLError: something is up already, or the folder cannot be made.
    """
    launcher.request.folder.begin(launcher.request.record(launcher.kind))
    try:
        yield
    except BaseException:
        with contextlib.suppress(LotteryFLError):  # what went wrong first is what is told
            await take_down(launcher)
        raise


async def take_down(launcher: Launcher) -> None:
    """Take everything away that is up, and forget it.

    Raises:
        LotteryFLError: something may be left.
    """
    await asyncio.shield(launcher.down())
    launcher.request.folder.end()


async def follow(launcher: Launcher, tell: Callable[[str], None]) -> Standing:
    """Tell how the run goes until it has ended, bring it here, and take away what is up.

    Args:
        launcher: of what was brought up, by this process or by another.
        tell: is told of every round in a line.

    Returns:
        How it has ended: well, with exit code 0, or with that of a run that left clients out.

    Raises:
        LotteryFLError: it has failed; or nobody knows any more how it stands, or it cannot be brought here: then what
            is up stays so, to be followed again.
    """
    told = _Rounds(launcher, tell)
    standing = await _until_ended(launcher, told)
    if standing.code in (0, LEFT_OUT):
        await told.last()
        await launcher.bring_back()
    await take_down(launcher)
    if standing.code not in (0, LEFT_OUT):
        raise LotteryFLError(printable(standing.why or f"the coordinator has ended with exit code {standing.code}"))
    return standing


async def _until_ended(launcher: Launcher, told: "_Rounds") -> Standing:
    """Ask again and again where a launch stands, and tell what is new about it."""
    clock = asyncio.get_running_loop().time
    news, known = "", clock()
    while True:
        before = news
        try:
            standing = await launcher.standing()
            known = clock()
            news = f"waiting: {standing.why}" if standing.stage is Stage.WAITING else ""
        except LotteryFLError as error:
            if clock() - known > _TROUBLE_SECONDS:
                raise
            standing, news = Standing(Stage.WAITING), f"{error}; asking again"
        if news not in ("", before):
            launcher.note(news)
        if standing.stage is Stage.ENDED:
            return standing
        if standing.stage is Stage.RUNNING:
            told.begin()
        await asyncio.sleep(SECONDS)


class _Rounds:
    """The run's rounds, told on a thread of their own: who looks may have to wait.

    A coordinator that has moved, as with a job that was requeued, is looked at where it is now.
    """

    def __init__(self, launcher: Launcher, tell: Callable[[str], None]) -> None:
        self._launcher = launcher
        self._tell = tell
        self._thread: threading.Thread | None = None
        self._looking: Looking | None = None
        self._is_said = False
        self._told = set[str]()

    def begin(self) -> None:
        """Look at the run, if that is not done already; before it can be looked at nothing is told."""
        looking = self._launcher.looking()
        if looking != self._looking:
            self._looking, self._is_said = looking, False
        elif self._thread is not None and (self._thread.is_alive() or self._is_said):
            return
        self._thread = threading.Thread(target=self._look, args=(looking,), name="rounds", daemon=True)
        self._thread.start()

    async def last(self) -> None:
        """Wait for what has been told of a run that has ended; not for long."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _LAST_SECONDS)

    def _look(self, looking: Looking) -> None:
        # It may not be there yet, or not any more: where the launch stands says more than that.
        with contextlib.suppress(LotteryFLError), source_of(looking.where, looking.security) as source:
            source.status()
            if not self._is_said:
                self._is_said = True
                for line in ways_to_look(looking):
                    self._launcher.note(line)
            print_looks(
                source.looks(),
                lambda line: self._once(looking, line),
                lambda line: self._launcher.note(line) if looking == self._looking else None,
            )

    def _once(self, looking: Looking, line: str) -> None:
        """Tell a round that has not been told, by whoever looks at where the run is now."""
        if looking == self._looking and line not in self._told:
            self._told.add(line)
            self._tell(line)


def ways_to_look(looking: Looking) -> Iterator[str]:
    """Return how people look at a run, in lines with the commands."""
    security = looking.security.tls.options()
    yield f"look at it with: {shlex.join(['lotteryfl', 'watch', looking.where, *security])}"
    if not security:
        yield f"or in a browser: {shlex.join(['lotteryfl', 'dashboard', looking.where])}"
