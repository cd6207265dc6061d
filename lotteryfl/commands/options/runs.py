"""Options that say what is run, and with which code of the user's own."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from lotteryfl.running.owncode import OwnCode

F = TypeVar("F", bound=Callable[..., Any])

task_option = click.option(
    "--task", "tasks", multiple=True, metavar="FILE|MODULE", help="A task of your own to allow here."
)
"""Gives the command `tasks`, a tuple of what was named."""

any_task_version_option = click.option(
    "--any-task-version",
    is_flag=True,
    help="Take part, or go on, also with another version of the run's task than its coordinator, or run.db, has on "
    "record; it is the files' digests that are compared.",
)
"""Gives the command `any_task_version`."""

local_option = click.option(
    "--local",
    multiple=True,
    metavar="FILE|MODULE",
    help="Local algorithms of your own to allow here: the clients' half of a strategy.",
)
"""Gives the command `local`, a tuple of what was named."""

any_local_version_option = click.option(
    "--any-local-version",
    is_flag=True,
    help="Take part, or go on, also with another version of the run's local algorithm, as with --any-task-version.",
)
"""Gives the command `any_local_version`."""


def own_code_options(command: F) -> F:
    """Give a command all that names the user's own code, as its parameter `own`."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        tasks: tuple[str, ...],
        strategies: tuple[str, ...],
        any_task_version: bool,
        local: tuple[str, ...],
        any_local_version: bool,
        **options: Any,
    ) -> object:
        own = OwnCode(tasks, strategies, any_task_version, local, any_local_version)
        return command(*args, own=own, **options)

    for decorator in (
        any_local_version_option,
        local_option,
        strategy_option(passed_on=True),
        any_task_version_option,
        task_option,
    ):
        wrapped = decorator(wrapped)
    return wrapped  # type: ignore[return-value]


device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda:0, …")
"""Gives the command `device`, as `choose_device` takes it."""


share_errors_option = click.option(
    "--share-errors",
    is_flag=True,
    help="Tell the coordinator what errors of a client's work say, also where privacy is promised or the clients are "
    "this worker's own: there it is told their type and place alone.",
)
"""Gives the command `share_errors`."""


def set_option(
    metavar: str = "KEY=VALUE", text: str = "Override the experiment, as training.lr=0.05."
) -> Callable[[F], F]:
    """Return the option `--set`, which gives the command `overrides`, a tuple of what was set.

    Args:
        metavar: how a setting is written.
        text: its help.
    """
    return click.option("--set", "overrides", multiple=True, metavar=metavar, help=text)


def strategy_option(*, passed_on: bool) -> Callable[[F], F]:
    """Return the option `--strategy`; what it names is known before the command begins.

    Args:
        passed_on: the command takes its values, as `strategies`.
    """
    return click.option(
        "--strategy",
        "strategies",
        multiple=True,
        metavar="FILE|MODULE",
        callback=_add,
        expose_value=passed_on,
        help="Strategies of your own to allow here.",
    )


def _add(_context: click.Context, _option: click.Parameter, sources: tuple[str, ...]) -> tuple[str, ...]:
    if sources:
        from lotteryfl.server.strategies import add_strategies  # torch takes seconds to import

        for source in sources:
            add_strategies(source)
    return sources
