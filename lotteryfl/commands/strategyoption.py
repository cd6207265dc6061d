"""The option by which commands take strategies of the user's own."""

from collections.abc import Callable
from typing import Any

import click


def strategy_option(*, passed_on: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
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
