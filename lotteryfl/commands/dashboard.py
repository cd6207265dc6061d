"""The command that shows runs in a browser."""

import asyncio
import contextlib
import webbrowser
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import click

from lotteryfl.commands.options.calls import channel_options
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.dashboard.extra import require_extra
from lotteryfl.signals import run_until_signal


@click.command()
@click.argument("directories", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--listen", default="127.0.0.1:0", show_default=True, metavar="HOST:PORT", help="Where browsers reach the page."
)
@click.option(
    "--coordinator", metavar="HOST:PORT", help="Ask it what the workers of the run in DIR are at, as an observer."
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path),
    help="A file of `lotteryfl token`: who has one of its tokens may look, beyond this machine.",
)
@click.option(
    "--revoked",
    type=click.Path(path_type=Path),
    help="A list of revoked certificates, as `lotteryfl certs --revoke` writes it: who shows one may not look.",
)
@channel_options
@click.option("--open", "open_", is_flag=True, help="Open the page in a browser here.")
@click.option("--fed", is_flag=True, hidden=True)  # a coordinator's process has started this one, and tells it more
def dashboard(
    directories: tuple[Path, ...],
    listen: str,
    coordinator: str | None,
    tokens: Path | None,
    revoked: Path | None,
    security: ChannelSecurity,
    open_: bool,
    fed: bool,
) -> None:
    """Show runs, finished or not (or all runs in a folder), as a page in a browser: it only looks."""
    require_extra()
    from lotteryfl.dashboard.access import PageEndpoint
    from lotteryfl.dashboard.listening import follow_pipe, show_page
    from lotteryfl.dashboard.live import Live

    if coordinator and len(directories) != 1:
        raise LotteryFLError(f"--coordinator {coordinator}: expected one DIR, that of its run")
    endpoint = PageEndpoint.of(listen, security.tls, tokens, revoked)
    endpoint.check()
    live = Live()
    following: Callable[[], Coroutine[object, object, None]] | None = None
    if fed:
        following = partial(follow_pipe, live)
    elif coordinator:
        from lotteryfl.dashboard.asking import follow_coordinator  # gRPC, for who asks

        security.check(coordinator)  # what is wrong is said before the page is shown, and what is to be warned of after
        following = partial(follow_coordinator, coordinator, security, live)
    with contextlib.suppress(asyncio.CancelledError):  # it ends when it is told to: that is no failure
        run_until_signal(
            show_page(
                directories,
                endpoint,
                live,
                lambda line: click.echo(line),
                webbrowser.open if open_ else None,
                following,
            )
        )
