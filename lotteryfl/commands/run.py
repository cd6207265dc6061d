"""The coordinator's commands, and those about a run. Torch is imported for a run alone: mistakes are told at once."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from lotteryfl.commands.options.calls import insecure_option, tls_options
from lotteryfl.commands.options.logs import log_options, traces_option
from lotteryfl.commands.options.outcome import allow_missing_option, leave, note, tell, tell_outcome
from lotteryfl.commands.options.page import PageWanted, page_options
from lotteryfl.commands.options.runs import device_option, own_code_options, set_option, share_errors_option
from lotteryfl.commands.options.telling import metrics_option, track_options
from lotteryfl.common.commandline import given
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import load
from lotteryfl.common.prometheus.exposing import check_exposed
from lotteryfl.common.security.tls import TLSFiles
from lotteryfl.common.telemetry.about import about
from lotteryfl.common.telemetry.logs import say
from lotteryfl.display import RunDisplay
from lotteryfl.running.newfolder import new_folder
from lotteryfl.running.owncode import OwnCode
from lotteryfl.running.tracking import Tracking, tracked
from lotteryfl.signals import run_until_signal

if TYPE_CHECKING:
    from lotteryfl.running.opened import OpenedRun

_overrides = set_option(text="Override the experiment, as training.lr=0.05; of a run in DIR, only rounds=MORE.")
_run_dir = click.option("--run-dir", type=click.Path(path_type=Path), help="[default: runs/NAME-TIME]")
_source = click.argument("source", metavar="EXPERIMENT.toml|DIR", type=click.Path(path_type=Path))


@contextmanager
def _opened(
    source: Path,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    own: OwnCode,
) -> Iterator["OpenedRun"]:
    """Open the run that the arguments mean: of an experiment file, or the one in a run directory."""
    if source.is_dir():
        if run_dir:
            raise LotteryFLError(f"{source}: is a run: --run-dir is for new ones")
        from lotteryfl.running.opened import opened_again

        with opened_again(source, own, overrides) as opened, about(run=opened.directory.run_id):
            yield opened
    else:
        experiment = load(source, overrides)
        from lotteryfl.running.opened import opened_new

        folder = nullcontext(run_dir) if run_dir else new_folder(Path("runs"), source.stem)
        with folder as path, opened_new(experiment, path, own) as opened, about(run=opened.directory.run_id):
            yield opened


def drive(
    opened: "OpenedRun",
    again: str,
    driver: Callable[[RunDisplay], None],
    tracking: Tracking,
    *,
    allow_missing: bool,
    even_finished: bool = False,
    standing: Callable[[Path], str] | None = None,
) -> None:
    """Drive a run to its end, and say how it went; when interrupted, how to go on.

    Where clients were left out, and that is not allowed, this is the process's end.

    Args:
        opened: the run.
        again: the command that goes on with it.
        driver: drives it, and shows how it goes on a display.
        tracking: where it is told of.
        allow_missing: clients may have been left out.
        even_finished: drive one with nothing left to do, too.
        standing: what more to say at its end, of its summary's file.
    """
    from lotteryfl.server.results.summary import write_summary

    tell(f"run directory: {opened.directory.path}")
    with tracked(opened.directory.path, tracking, note):
        try:
            if even_finished or not opened.is_finished:
                with RunDisplay(Console(stderr=True)) as display:
                    driver(display)
        except (asyncio.CancelledError, KeyboardInterrupt) as error:
            say(f"stopped; what was counted is kept. Go on with: {again}")
            raise click.Abort from error
        path = write_summary(opened.directory)
        tell_outcome(opened.directory, path)
        if standing:
            tell(standing(path))
    leave(opened.directory, allow_missing=allow_missing)


def by_workers(
    opened: "OpenedRun",
    workers: int,
    device: str,
    page: Sequence[str] = (),
    *,
    share_errors: bool = False,
    metrics: str = "",
) -> Callable[[RunDisplay], None]:
    """Return what drives a run by processes on this machine; its arguments are `running.local.run_locally`'s."""
    from lotteryfl.running.local import run_locally

    def drive_it(display: RunDisplay) -> None:
        run_until_signal(
            run_locally(
                opened.directory,
                workers,
                device,
                opened.of_workers,
                display.show,
                display.note,
                page,
                share_errors=share_errors,
                metrics=metrics,
            )
        )

    return drive_it


def in_this_process(opened: "OpenedRun", device: str, *, share_errors: bool = False) -> Callable[[RunDisplay], None]:
    """Return what drives a run in this one process, on the device of that name."""
    from lotteryfl.running.device import choose_device
    from lotteryfl.running.simulate import Simulation

    chosen = choose_device(device)
    simulation = Simulation(opened.directory, opened.task, chosen, share_errors=share_errors, local=opened.code)
    return lambda display: simulation.run(display.show)


@click.command()
@_source
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Local processes.")
@_run_dir
@_overrides
@own_code_options
@device_option
@share_errors_option
@log_options
@traces_option
@track_options
@metrics_option
@page_options
@allow_missing_option
def run(
    source: Path,
    workers: int,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    own: OwnCode,
    device: str,
    share_errors: bool,
    tracking: Tracking,
    metrics: str,
    page: PageWanted,
    allow_missing: bool,
) -> None:
    """Run an experiment with local workers, or continue the run in DIR."""
    if metrics:
        check_exposed(metrics, workers)
    page_at = page.options()
    with _opened(source, run_dir, overrides, own) as opened:
        drive(
            opened,
            opened.command(
                "run",
                *given(workers=workers, device=device, metrics=metrics, dashboard=page.address),
                *tracking.options(),
                *given(share_errors=share_errors, allow_missing=allow_missing),
            ),
            by_workers(opened, workers, device, page_at, share_errors=share_errors, metrics=metrics),
            tracking,
            allow_missing=allow_missing,
        )


@click.command()
@_source
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where workers reach the coordinator.")
@tls_options
@click.option(
    "--tokens",
    type=click.Path(path_type=Path),
    help="A file of `lotteryfl token`: callers need one of its tokens.",
)
@click.option(
    "--revoked",
    type=click.Path(path_type=Path),
    help="A list of revoked certificates, as `lotteryfl certs --revoke` writes it: they do not count.",
)
@insecure_option
@click.option(
    "--health-listen", "health", default="", metavar="HOST:PORT", help="Health alone, in plaintext: for probes."
)
@metrics_option
@click.option("--reflection", is_flag=True, help="Let callers ask which calls there are.")
@page_options
@_run_dir
@_overrides
@own_code_options
@log_options
@traces_option
@track_options
@allow_missing_option
def serve(
    source: Path,
    listen: str,
    tls: TLSFiles,
    tokens: Path | None,
    revoked: Path | None,
    insecure: bool,
    health: str,
    metrics: str,
    reflection: bool,
    page: PageWanted,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    own: OwnCode,
    tracking: Tracking,
    allow_missing: bool,
) -> None:
    """Be the coordinator of an experiment, or of the run in DIR."""
    from lotteryfl.server.rpc.endpoint import Endpoint

    endpoint = Endpoint(listen, tls, tokens, insecure, reflection, health, revoked, metrics)
    warning = endpoint.check()
    endpoint.check_free()
    if warning:
        say(warning, logging.WARNING)
    page_at = page.options(tls, tokens, revoked)
    with _opened(source, run_dir, overrides, own) as opened:
        from lotteryfl.running.local import serve_at

        endpoint.check_access(opened.directory.experiment.access)
        drive(
            opened,
            opened.command(
                "serve",
                *endpoint.options(),
                *given(dashboard=page.address),
                *tracking.options(),
                *given(allow_missing=allow_missing),
            ),
            lambda display: run_until_signal(serve_at(opened.directory, endpoint, display.show, display.note, page_at)),
            tracking,
            allow_missing=allow_missing,
            even_finished=True,
        )


@click.command()
@_source
@_run_dir
@_overrides
@own_code_options
@device_option
@share_errors_option
@log_options
@traces_option
@track_options
@allow_missing_option
def simulate(
    source: Path,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    own: OwnCode,
    device: str,
    share_errors: bool,
    tracking: Tracking,
    allow_missing: bool,
) -> None:
    """Run an experiment in this one process, with the same result as over gRPC."""
    from lotteryfl.running.device import choose_device

    choose_device(device)  # a mistake is told before anything is set up
    with _opened(source, run_dir, overrides, own) as opened:
        drive(
            opened,
            opened.command(
                "simulate",
                *given(device=device),
                *tracking.options(),
                *given(share_errors=share_errors, allow_missing=allow_missing),
            ),
            in_this_process(opened, device, share_errors=share_errors),
            tracking,
            allow_missing=allow_missing,
        )
