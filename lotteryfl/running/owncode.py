"""The user's own code that may run here, as it was named."""

from dataclasses import dataclass

from lotteryfl.common.commandline import given


@dataclass(frozen=True)
class OwnCode:
    """Files and modules; which versions of them may take part."""

    tasks: tuple[str, ...] = ()
    """Of tasks that are allowed."""
    strategies: tuple[str, ...] = ()
    """Of strategies."""
    any_task_version: bool = False
    """Other versions of the task than the run's may take part."""
    local: tuple[str, ...] = ()
    """Of local algorithms that are allowed."""
    any_local_version: bool = False
    """Other versions of the local algorithm than the run's may take part."""

    @property
    def options(self) -> list[str]:
        """The options by which a command is told of it."""
        return given(
            task=self.tasks,
            strategy=self.strategies,
            any_task_version=self.any_task_version,
            local=self.local,
            any_local_version=self.any_local_version,
        )
