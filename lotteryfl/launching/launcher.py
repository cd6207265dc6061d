"""What every kind of launcher does, and what it is told of the run that it launches."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, NamedTuple

from lotteryfl.common.commandline import given
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.launching.folder import LaunchFolder, LaunchRecord
from lotteryfl.launching.settings import LaunchSettings
from lotteryfl.running.owncode import OwnCode


@dataclass(frozen=True)
class Request:
    """What is to be launched, or was."""

    source: Path
    """The experiment file, or a run directory to go on with; absolute."""
    run_dir: Path
    """Where the run is, or will be once it is brought back; absolute."""
    overrides: tuple[str, ...]
    """Of the experiment, as --set has them."""
    own: OwnCode
    """The user's own code, by its names on the machines where it runs; code never travels."""
    settings: LaunchSettings
    folder: LaunchFolder
    """Of this launch; made once something is brought up."""

    @property
    def serve_arguments(self) -> list[str]:
        """What `lotteryfl serve` is told of the run, all but where it listens: its source, --run-dir, --set, own code.

        A launcher whose coordinator runs on another machine has to name other paths, and builds its own.
        """
        if self.source.is_dir():
            return [str(self.source), *given(set=self.overrides), *self.own.options]
        return [str(self.source), *given(run_dir=self.run_dir, set=self.overrides), *self.own.options]

    def work_arguments(self) -> list[str]:
        """What `lotteryfl work` is told there, all but coordinator, name and security: devices, data, own code, more.

        The user's tasks and local algorithms are named as they were here, unless `arguments` names any there.
        """
        settings = self.settings
        more = settings.arguments
        tasks = () if _names("--task", more) else self.own.tasks
        local = () if _names("--local", more) else self.own.local
        return [
            *given(
                devices=settings.devices,
                per_device=settings.workers_per_device,
                data_dir=settings.data_dir,
                patience=settings.patience,
                task=tasks,
                any_task_version=self.own.any_task_version,
                local=local,
                any_local_version=self.own.any_local_version,
            ),
            *more,
        ]

    def record(self, kind: str) -> LaunchRecord:
        """Return what is put on record of it."""
        return LaunchRecord(
            kind=kind,
            source=str(self.source),
            overrides=self.overrides,
            tasks=self.own.tasks,
            strategies=self.own.strategies,
            local=self.own.local,
            any_task_version=self.own.any_task_version,
            any_local_version=self.own.any_local_version,
            settings=self.settings,
        )

    @classmethod
    def of_record(cls, run_dir: Path, folder: LaunchFolder) -> "Request":
        """Return what was launched, by its folder.

        Raises:
            LotteryFLError: nothing was, or its record is damaged.
        """
        record = folder.record()
        own = OwnCode(record.tasks, record.strategies, record.any_task_version, record.local, record.any_local_version)
        return cls(Path(record.source), run_dir, record.overrides, own, record.settings, folder)


class Stage(StrEnum):
    """How far a launch is."""

    WAITING = "waiting"
    """For something else than itself: a queue, a machine, an image. Nothing can be looked at yet."""
    RUNNING = "running"
    """The coordinator is there, or has been: what `looking` returns can be looked at."""
    ENDED = "ended"
    """The coordinator has ended for good, and is not started again."""


class Standing(NamedTuple):
    """Where a launch stands."""

    stage: Stage
    why: str = ""
    """Waiting: for what. Ended and not well: how, in one line."""
    code: int = 0
    """Ended: the coordinator's exit code, or 1 where nobody knows it: 0 and 3 are those of a finished run."""


class Looking(NamedTuple):
    """Where a run is looked at, as `lotteryfl watch` takes it."""

    where: str
    """A run directory here, or HOST:PORT."""
    security: ChannelSecurity = ChannelSecurity()


class Launcher(ABC):
    """Launches runs in one kind of place. It knows nothing but its request: another process may follow and end it.

    The order of calls is check, up, perhaps detach, then standing again and again until that says ended, bring_back,
    down. A process that follows begins with standing; down may come at any time. All but `check` and `rendered` may
    take their time; what blocks goes into a thread.
    """

    kind: ClassVar[str]
    """The command's word for it."""
    outlives_its_command: ClassVar[bool] = True
    """Whether the run goes on when `lotteryfl launch` is interrupted; otherwise it is taken down, unless detached."""

    def __init__(self, request: Request, note: Callable[[str], None]) -> None:
        """Set what is launched.

        Args:
            request: what and where; of a launch that is followed, as its folder has it on record.
            note: is told in a line what people should know.
        """
        self.request = request
        self.note = note

    @abstractmethod
    def check(self) -> None:
        """Check tools and settings before anything is made.

        Raises:
            LotteryFLError: one is missing or wrong; a library that is missing is named with its extra.
        """

    @abstractmethod
    def rendered(self) -> dict[str, str]:
        """Return by name what would be submitted or called, exactly, without secrets; nothing is made or asked for."""

    @abstractmethod
    async def up(self) -> None:
        """Start everything; `down` must be able to take it away from the record, however far this came.

        The folder has been begun. Before each start what it needs is put on record (`folder.note`).

        Raises:
            LotteryFLError: something could not be started; the caller calls `down`.
        """

    async def detach(self) -> None:  # noqa: B027 - most have nothing to do
        """Let go of what `up` has started, so that it goes on when this process has ended: --detach was given."""

    @abstractmethod
    async def standing(self) -> Standing:
        """Find out where what was started stands.

        Raises:
            LotteryFLError: it cannot be found out now; the caller asks again, for some time.
        """

    @abstractmethod
    def looking(self) -> Looking:
        """Return where the run is looked at once it is running."""

    async def bring_back(self) -> None:  # noqa: B027 - many have nothing to do
        """Bring the run directory here, or its summary, from where it is; `run_dir` names its place here.

        Raises:
            LotteryFLError: it cannot be brought.
        """

    @abstractmethod
    async def down(self) -> None:
        """Take all away that was started, but for the logs and the run; twice, or after half an `up`, is no error.

        The caller ends the folder's record afterwards.

        Raises:
            LotteryFLError: something may be left: what, and how to take it away by hand.
        """


def _names(option: str, arguments: tuple[str, ...]) -> bool:
    return any(argument == option or argument.startswith(f"{option}=") for argument in arguments)
