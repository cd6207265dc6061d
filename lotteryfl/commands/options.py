"""Options that several commands take, each written once.

Imports neither torch nor gRPC: `lotteryfl status`, the containers' health check, needs it all.
"""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from lotteryfl.common.logs import FORMATS, LEVELS
from lotteryfl.common.security.tls import ChannelSecurity, SecurityError, TLSFiles, read_token
from lotteryfl.common.tracing import AS_OTEL, switch_off, switch_on
from lotteryfl.logsettings import FORMAT_VARIABLE, LEVEL_VARIABLE
from lotteryfl.running.environment import TLS_PREFIX, TOKEN_VARIABLE, TRACES_VARIABLE
from lotteryfl.running.owncode import OwnCode
from lotteryfl.running.tracking import Tracking

F = TypeVar("F", bound=Callable[..., Any])

# -- what runs

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


# -- what is said of it


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

# -- what is told elsewhere


def track_options(command: F) -> F:
    """Give a command --track and --track-wait, as its parameter `tracking`; what they need is asked for first."""

    @functools.wraps(command)
    def wrapped(*args: Any, track: tuple[str, ...], track_wait: float, **options: Any) -> object:
        if track:
            from lotteryfl.server.results.trackers import parse_target

            for target in track:
                parse_target(target, "--track")
        return command(*args, tracking=Tracking(track, track_wait), **options)

    for decorator in (
        click.option(
            "--track-wait",
            type=click.FloatRange(min=0),
            default=60.0,
            show_default=True,
            help="Seconds after the run's end in which a tracker that is down is tried again.",
        ),
        click.option(
            "--track",
            multiple=True,
            metavar="KIND[=PLACE]",
            help="Feed tensorboard, mlflow, wandb or trackio with the run as it goes on, from a process of its own.",
        ),
    ):
        wrapped = decorator(wrapped)
    return wrapped  # type: ignore[return-value]


metrics_option = click.option(
    "--metrics",
    default="",
    metavar="HOST:PORT",
    help="Let Prometheus read how it goes at http://HOST:PORT/metrics, in plaintext; of several processes each has its "
    "own, at this port and those after it.",
)
"""Gives the command `metrics`, an address; empty: nowhere."""


# -- what secures a call


def tls_options(command: F) -> F:
    """Give a command --tls-cert, --tls-key and --tls-ca, as its parameter `tls`."""

    def option(name: str, text: str) -> Callable[[Any], Any]:
        variable = f"{TLS_PREFIX}{name.upper()}"
        return click.option(
            f"--tls-{name}", type=click.Path(path_type=Path), envvar=variable, help=f"{text}, in PEM. [or ${variable}]"
        )

    @functools.wraps(command)
    def wrapped(*args: Any, tls_cert: Path | None, tls_key: Path | None, tls_ca: Path | None, **options: Any) -> object:
        return command(*args, tls=TLSFiles(tls_cert, tls_key, tls_ca), **options)

    for decorator in (
        option("ca", "The authority of the other side's certificates"),
        option("key", "The private key of that certificate"),
        option("cert", "This side's certificate"),
    ):
        wrapped = decorator(wrapped)
    return wrapped  # type: ignore[return-value]


insecure_option = click.option("--insecure", is_flag=True, help="Allow plaintext beyond this machine.")


token_file_option = click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help=f"Holds the token that shows who this is. [or ${TOKEN_VARIABLE}, the token itself]",
)
"""Gives the command `token_file`, for `read_token_file`."""


def channel_options(command: F) -> F:
    """Give a command all that secures a call to a coordinator, as its parameter `security`."""

    @functools.wraps(command)
    def wrapped(*args: Any, tls: TLSFiles, token_file: Path | None, insecure: bool, **options: Any) -> object:
        return command(*args, security=ChannelSecurity(tls, read_token_file(token_file), insecure), **options)

    return tls_options(token_file_option(insecure_option(wrapped)))  # type: ignore[return-value]


def read_token_file(file: Path | None) -> str:
    """Return the token that a file holds, or where there is none the environment; '': there is none.

    Raises:
        SecurityError: what is there is none.
    """
    if file is None:
        text = os.environ.get(TOKEN_VARIABLE, "")
        return read_token(text, f"${TOKEN_VARIABLE}") if text else ""
    try:
        return read_token(file.read_text(encoding="utf-8-sig"), str(file))
    except OSError as error:
        raise SecurityError(f"--token-file {file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SecurityError(f"--token-file {file}: holds no token") from error
