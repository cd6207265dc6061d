"""The command that follows a run on a terminal. Imports neither torch nor, for a directory, gRPC."""

from collections.abc import Iterable

import click
from rich.console import Console
from rich.live import Live

from lotteryfl.commands.options.calls import channel_options
from lotteryfl.common.logs import say
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.common.text import printable
from lotteryfl.describe import describe_round, describe_state
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.seeing.look import Look
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
            _print(source.looks())


def _draw(where: str, looks: Iterable[Look], console: Console) -> None:
    screen = Screen(where, console)
    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        for look in looks:
            live.update(screen.drawn(look), refresh=True)


def _print(looks: Iterable[Look]) -> None:
    trouble = ""
    for look in looks:
        for round_ in look.rounds:
            click.echo(printable(describe_round(_after(look.status, round_))))
        if look.trouble not in ("", trouble):
            say(printable(f"{look.trouble}; waiting for it"))
        trouble = look.trouble
        if look.is_last:
            click.echo(printable(f"the run has {describe_state(look.status)}"))


def _after(status: pb.RunStatus, last: pb.RoundSummary) -> pb.RunStatus:
    """Return a status as it was after a round, as far as a line about that needs it."""
    return pb.RunStatus(rounds=status.rounds, score=status.score, last=last)
