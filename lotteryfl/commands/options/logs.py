"""Options that say how a command logs, and where it sends traces."""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import click

from lotteryfl.common.telemetry.logs import FORMATS, LEVELS
from lotteryfl.common.telemetry.tracing import AS_OTEL, switch_off, switch_on
from lotteryfl.logsettings import FORMAT_VARIABLE, LEVEL_VARIABLE
from lotteryfl.running.environment import TRACES_VARIABLE

F = TypeVar("F", bound=Callable[..., Any])


def log_options(command: F) -> F:
    """Give a command --log-format and --log-level, which are known before it begins: see `logsettings`."""

    def option(name: str, choices: Sequence[str], text: str, variable: str) -> Callable[[F], F]:
        declared = click.option(name, expose_value=False, metavar="|".join(choices), help=f"{text} [or ${variable}]")
        return cast(Callable[[F], F], declared)

    formats = option("--log-format", FORMATS, "Of each line on stderr; json: one object a line.", FORMAT_VARIABLE)
    levels = option("--log-level", LEVELS, "From which on it is logged.", LEVEL_VARIABLE)
    return formats(levels(command))


def _trace(context: click.Context, _option: click.Parameter, target: str) -> None:
    if target:
        switch_on(target, f"lotteryfl-{context.info_name}")
        context.call_on_close(switch_off)
        os.environ[TRACES_VARIABLE] = target  # for the processes that it starts, too


traces_option = click.option(
    "--traces",
    default="",
    metavar=f"HOST:PORT|URL|{AS_OTEL}",
    envvar=TRACES_VARIABLE,
    expose_value=False,
    callback=_trace,
    help=f"Send a trace of every round to an OTLP collector, by gRPC. {AS_OTEL}: to where OTEL_EXPORTER_OTLP_ENDPOINT "
    f"says. [or ${TRACES_VARIABLE}]",
)
"""Lets the command be traced; its spans are sent before it ends."""
