"""The command that feeds trackers of experiments with a run."""

import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from lotteryfl.commands.options.telling import wait_option
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.telemetry.logs import say
from lotteryfl.common.text import printable
from lotteryfl.server.results.following import Follower
from lotteryfl.server.results.trackers import parse_target
from lotteryfl.server.results.trackers.feed import Feed
from lotteryfl.server.results.trackers.feeding import feed_all
from lotteryfl.server.results.trackers.runsend import RunsEnd


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "to",
    multiple=True,
    required=True,
    metavar="KIND[=PLACE]",
    help="tensorboard, mlflow, wandb or trackio; PLACE is a folder, a URI, or a project.",
)
@wait_option("--wait")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds between two looks at DIR.",
)
@click.option("--parent", type=click.IntRange(min=0), hidden=True)
def track(directory: Path, to: tuple[str, ...], wait: float, interval: float, parent: int | None) -> None:
    """Feed trackers with a run, each round as it is committed, until the run has ended."""
    targets = [parse_target(text, "--to") for text in to]
    end = RunsEnd(wait)
    note = _begin_at_end_of_parent(parent, end) if parent is not None else lambda line: say(printable(line))
    feeds = [Feed(directory, target, end, note, interval) for target in targets]
    if parent is None:
        threading.Thread(target=_begin_at_end_of_run, args=(directory, end, interval), daemon=True).start()
    failed = feed_all(feeds, end)
    for line in failed:
        note(f"{line}; what it lacks gets there with: lotteryfl track {directory} --to …")
    if failed:
        sys.stdout.flush()
        os._exit(LotteryFLError.exit_code)  # a library's thread that hangs is not waited for


def _begin_at_end_of_run(directory: Path, end: RunsEnd, interval: float) -> None:
    """Let the end begin when the run has finished or failed, or its directory cannot be read."""
    follower = Follower[None](directory, lambda _database, _first: ())
    with suppress(LotteryFLError):  # which those who feed say
        while (found := follower.look()) is None or found.state == "running":
            end.pause(interval)
    end.begin()


def _begin_at_end_of_parent(descriptor: int, end: RunsEnd) -> Callable[[str], None]:
    """Let the end begin when the process on the other end of the line says so, or is gone; return how to tell it."""
    line = socket.socket(fileno=descriptor)
    line.set_inheritable(False)  # what a library starts does not hold it open

    def listen() -> None:
        said = b""
        with suppress(OSError):
            while part := line.recv(64):
                said += part
        end.begin(float(said) if said else None)

    def note(text: str) -> None:
        with suppress(OSError):
            line.sendall(f"{printable(text)}\n".encode())

    threading.Thread(target=listen, daemon=True).start()
    return note
