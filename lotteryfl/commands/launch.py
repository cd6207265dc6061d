"""The command that runs an experiment elsewhere. Imports neither torch nor gRPC before something is launched."""

import asyncio
import shlex
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from lotteryfl.commands.options.logs import log_options
from lotteryfl.commands.options.outcome import allow_missing_option, leave, note, tell, tell_outcome
from lotteryfl.commands.options.places import profile_option, with_option
from lotteryfl.commands.options.runs import own_code_options, set_option
from lotteryfl.common import commandline
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment, load
from lotteryfl.common.models.named import model_name
from lotteryfl.launching.folder import LaunchFolder
from lotteryfl.launching.following import bring_up, follow, take_down
from lotteryfl.launching.kinds import KINDS, make_launcher
from lotteryfl.launching.launcher import Launcher, Request
from lotteryfl.launching.settings import launch_settings
from lotteryfl.running.owncode import OwnCode
from lotteryfl.server.store.findruns import is_run
from lotteryfl.server.store.record import looked_at
from lotteryfl.signals import run_until_signal


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("source", metavar="EXPERIMENT.toml|RUN_DIR", type=click.Path(path_type=Path))
@click.option("--run-dir", type=click.Path(path_type=Path), help="[default: runs/NAME-TIME]")
@set_option(text="Override the experiment, as training.lr=0.05.")
@own_code_options
@profile_option
@with_option
@click.option("--dry-run", is_flag=True, help="Print what would be submitted or called, and do nothing.")
@click.option("--detach", is_flag=True, help="Return once everything is started.")
@click.option("--down", is_flag=True, help="Take away all that was launched; the run and its logs stay.")
@allow_missing_option
@log_options
def launch(
    kind: str,
    source: Path,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    own: OwnCode,
    profile: str,
    given: tuple[str, ...],
    dry_run: bool,
    detach: bool,
    down: bool,
    allow_missing: bool,
) -> None:
    """Run an experiment on other machines, follow it, and bring it back; RUN_DIR's launch is followed again."""
    if down and source.is_file() and not run_dir:
        raise click.UsageError(f"--down: expected RUN_DIR, or {source} with --run-dir")
    place = (run_dir or source).absolute()
    folder = LaunchFolder(place)
    if down and not folder.path.exists() and not is_run(place):
        raise LotteryFLError(f"{place}: is no run directory, and nothing is launched for it")
    if down or (folder.is_up and not source.is_file()):
        _require_nothing_else(folder, overrides, profile, given, dry_run)
        _again(kind, place, folder, detach=detach, down=down, allow_missing=allow_missing)
        return
    launcher = _new(kind, source, run_dir, overrides, own, profile, given)
    if dry_run:
        launcher.check()
        scripts = launcher.rendered()
        for name, text in scripts.items():
            click.echo(text.rstrip() if len(scripts) == 1 else f"# {name}\n{text.rstrip()}\n")  # one alone can be kept
        return
    request = launcher.request
    if source.is_dir() and not is_run(source):
        raise LotteryFLError(f"{source}: is no run directory, and nothing is launched for it")
    if source.is_dir() and not overrides and _has_finished(source):
        _tell_end(request.run_dir, allow_missing=allow_missing)
        return
    options = commandline.given(
        run_dir="" if source.is_dir() else request.run_dir, set=overrides, profile=profile, **{"with": given}
    )
    go_on = shlex.join(["lotteryfl", "launch", kind, str(source), *options, *own.options])
    _drive(launcher, go_on, detach=detach, allow_missing=allow_missing)


def _new(
    kind: str,
    source: Path,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    own: OwnCode,
    profile: str,
    given: tuple[str, ...],
) -> Launcher:
    """Return the launcher of an experiment, or of a run that goes on."""
    settings = launch_settings(source, profile, given)
    if source.is_dir():
        if run_dir:
            raise LotteryFLError(f"{source}: is a run: --run-dir is for new ones")
        place = source
    else:
        own = _with_sources_of(load(source, overrides), own)  # what is wrong with it is said before anything starts
        place = run_dir or Path("runs") / f"{source.stem}-{datetime.now():%Y%m%d-%H%M%S}"
    request = Request(source.absolute(), place.absolute(), overrides, own, settings, LaunchFolder(place))
    return make_launcher(kind, request, note)


def _with_sources_of(experiment: Experiment, own: OwnCode) -> OwnCode:
    """Return the user's own code with what the experiment names: its author has named that for all machines."""
    task = experiment.task
    if task.name.endswith(".py") and model_name(task.model) is None:
        named: tuple[str, ...] = (task.name,)
    else:
        from lotteryfl.common.tasks import own_sources  # which are built in, torch has to be imported for

        named = own_sources(experiment)
    return replace(own, tasks=(*named, *own.tasks))


def _again(kind: str, run_dir: Path, folder: LaunchFolder, *, detach: bool, down: bool, allow_missing: bool) -> None:
    """Follow what was launched, or take it down."""
    if not folder.is_up:
        note(f"{run_dir}: nothing is launched")
        return
    if (known := folder.record().kind) != kind:
        raise LotteryFLError(f"{run_dir}: was launched by {known!r}, not {kind!r}")
    launcher = make_launcher(kind, Request.of_record(run_dir, folder), note)
    if down:
        asyncio.run(take_down(launcher))
        note(f"{run_dir}: nothing of it is launched any more; logs: {folder.logs}")
    elif detach:
        note(f"{run_dir}: is launched already")
    else:
        _drive(launcher, "", detach=False, allow_missing=allow_missing)


def _drive(launcher: Launcher, go_on: str, *, detach: bool, allow_missing: bool) -> None:
    """Bring a launch up, follow it to its end, and say what the run has come to.

    Args:
        launcher: of it.
        go_on: the command that launches the run again; empty: it is up already, and only followed.
        detach: it is not followed.
        allow_missing: the run may leave clients out.
    """
    run_dir = launcher.request.run_dir
    again = shlex.join(["lotteryfl", "launch", launcher.kind, str(run_dir)])
    is_up = not go_on

    async def whole() -> None:
        nonlocal is_up
        if not is_up:
            await bring_up(launcher, lambda: tell(f"run directory: {run_dir}"))
            is_up = True
        if detach:
            await launcher.detach()
        else:
            await follow(launcher, click.echo)

    try:
        run_until_signal(whole())
    except (asyncio.CancelledError, KeyboardInterrupt) as error:
        if not is_up:
            note("stopped; nothing is launched")
        elif go_on and not launcher.outlives_its_command:
            asyncio.run(take_down(launcher))
            note(f"stopped; what was counted is kept. Go on with: {go_on}")
        else:
            note(f"not followed any more, and goes on. Follow it with: {again}; take it down with: {again} --down")
        raise click.Abort from error
    if detach:
        note(f"launched. Follow it with: {again}; take it down with: {again} --down")
        return
    _tell_end(run_dir, allow_missing=allow_missing)


def _has_finished(run_dir: Path) -> bool:
    with looked_at(run_dir) as run:
        return run.state == "finished"


def _tell_end(run_dir: Path, *, allow_missing: bool) -> None:
    """Say what a run has come to, as far as it is here."""
    if not is_run(run_dir):
        return
    with looked_at(run_dir) as run:
        tell_outcome(run, run_dir / "summary.json")
        leave(run, allow_missing=allow_missing)


def _require_nothing_else(
    folder: LaunchFolder, overrides: tuple[str, ...], profile: str, given: tuple[str, ...], dry_run: bool
) -> None:
    """Check that nothing is asked for that only a new launch can have."""
    for option, value in (("--set", overrides), ("--profile", profile), ("--with", given), ("--dry-run", dry_run)):
        if value:
            raise LotteryFLError(f"{option}: is for a new launch; {folder.path} has one")
