"""Options by which a run is told of elsewhere as it goes on: trackers, Prometheus."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from lotteryfl.running.tracking import Tracking

F = TypeVar("F", bound=Callable[..., Any])


def wait_option(name: str) -> Callable[[F], F]:
    """Return the option of that name which says how long trackers are waited for."""
    return click.option(
        name,
        type=click.FloatRange(min=0),
        default=Tracking.wait,
        show_default=True,
        help="Seconds after the run's end in which a tracker that is down is tried again.",
    )


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
        wait_option("--track-wait"),
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
