"""How the commands that drive a run, or follow one that was launched, say what it has come to, and end."""

import logging
import sys
from pathlib import Path

import click

from lotteryfl.common.telemetry.logs import is_json, say
from lotteryfl.common.text import printable
from lotteryfl.exitcodes import LEFT_OUT
from lotteryfl.server.results.leftout import describe_left_out
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.summaries import left_out

allow_missing_option = click.option(
    "--allow-missing", is_flag=True, help="Exit with 0, not 3, from a finished run that left clients out of rounds."
)
"""Gives the command `allow_missing`, for `leave`."""


def tell(result: str) -> None:
    """Print where something is; who reads stderr as a machine is told there too."""
    click.echo(result)
    if is_json():
        say(result)


def note(text: str) -> None:
    """Say what people should know, in which names and words of others may be."""
    say(printable(text))


def tell_outcome(run: RunRecord, summary: Path) -> None:
    """Print a finished run's final table, and where its summary is."""
    from lotteryfl.server.results.finaltable import final_table  # with numpy

    click.echo(final_table(run))
    click.echo()
    tell(f"summary: {summary}")


def leave(run: RunRecord, *, allow_missing: bool) -> None:
    """Warn of clients that a finished run has left out; unless that is allowed, this is the process's end."""
    missing = left_out(run.database)
    for client in missing:
        say(f"warning: {printable(describe_left_out(client))}", logging.WARNING)
    if missing and not allow_missing:
        sys.exit(LEFT_OUT)
