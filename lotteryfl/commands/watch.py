"""The command that follows a run on a terminal. Imports neither torch nor, for a directory, gRPC."""

from collections.abc import Iterable

import click
from rich.console import Console
from rich.live import Live

from lotteryfl.commands.options.calls import channel_options
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.common.telemetry.logs import say
from lotteryfl.seeing.look import Look
from lotteryfl.seeing.printing import print_looks
from lotteryfl.seeing.screen import Screen
from lotteryfl.seeing.source import source_of


@click.command()
@click.argument("where", metavar="DIR|HOST:PORT")
@channel_options
def watch(where: str, security: ChannelSecurity) -> None:
    """Follow a run on the terminal until it has ended; where there is none, by a line for every round."""
    console = Console(highlight=False)
    with source_of(where, security) as source:
        if console.is_terminal and not console.is_dumb_terminal:
            _draw(where, source.looks(), console)
        else:
            print_looks(source.looks(), click.echo, say)


def _draw(where: str, looks: Iterable[Look], console: Console) -> None:
    screen = Screen(where, console)
    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        for look in looks:
            live.update(screen.drawn(look), refresh=True)
