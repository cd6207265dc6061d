"""The command that runs a protocol's experiment, and says how its result stands beside what is published."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tabulate import tabulate

from lotteryfl.commands.options.logs import log_options
from lotteryfl.commands.options.outcome import allow_missing_option, note
from lotteryfl.commands.options.runs import device_option, own_code_options, set_option
from lotteryfl.commands.run import by_workers, drive, in_this_process
from lotteryfl.common.commandline import given
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.telemetry.about import about
from lotteryfl.protocols.described import Protocol
from lotteryfl.protocols.files import names, protocol
from lotteryfl.protocols.standing import standing
from lotteryfl.running.newfolder import new_folder
from lotteryfl.running.owncode import OwnCode
from lotteryfl.running.tracking import Tracking

if TYPE_CHECKING:
    from lotteryfl.common.experiment.experiment import Experiment
    from lotteryfl.running.opened import OpenedRun


@click.command()
@click.argument("name", metavar="[NAME]", default="")
@click.option(
    "--rounds", type=click.IntRange(1, 2**31 - 1), help="Another number of them than the protocol's, for a trial."
)
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Local processes.")
@click.option("--simulate", is_flag=True, help="In this one process, with the same result.")
@click.option("--data-dir", default="", metavar="DIR", help="Where the data lie, as task.data_dir.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="[default: runs/NAME-TIME]")
@set_option(text="Choose what the protocol leaves open, as seed=1.")
@own_code_options
@device_option
@log_options
@allow_missing_option
def reproduce(
    name: str,
    rounds: int | None,
    workers: int,
    simulate: bool,
    data_dir: str,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    own: OwnCode,
    device: str,
    allow_missing: bool,
) -> None:
    """Run a protocol of the literature, or list them, and say how the result stands beside what is published.

    What is fixed cannot be set; what a contender may choose, the protocol's page says.
    """
    if not name:
        if rounds or data_dir or run_dir or overrides:
            raise click.UsageError("NAME is missing: expected that of a protocol; with nothing at all they are listed")
        click.echo(_listed())
        return
    chosen = protocol(name)
    experiment = chosen.with_choices(overrides, rounds)
    if data_dir:
        place = {"data_dir": str(Path(data_dir).expanduser().resolve())}
        experiment = experiment.model_copy(update={"task": experiment.task.model_copy(update=place)})
    _check_partition(chosen, experiment, own)
    with _opened(chosen, experiment, run_dir, own) as opened:
        drive(
            opened,
            opened.command("run", *given(workers=workers, device=device, allow_missing=allow_missing)),
            in_this_process(opened, device) if simulate else by_workers(opened, workers, device),
            Tracking(()),
            allow_missing=allow_missing,
            standing=lambda summary: standing(chosen, experiment, json.loads(summary.read_text(encoding="utf-8"))),
        )


def _listed() -> str:
    found = [protocol(name) for name in names()]
    rows = [(each.name, each.experiment.task.name, each.experiment.rounds, each.title) for each in found]
    return tabulate(rows, headers=("protocol", "data", "rounds", "what it is"))


@contextmanager
def _opened(chosen: Protocol, experiment: "Experiment", run_dir: Path | None, own: OwnCode) -> Iterator["OpenedRun"]:
    from lotteryfl.running.opened import opened_new

    folder = nullcontext(run_dir) if run_dir else new_folder(Path("runs"), chosen.name)
    with folder as path, opened_new(experiment, path, own) as opened, about(run=opened.directory.run_id):
        yield opened


def _check_partition(chosen: Protocol, experiment: "Experiment", own: OwnCode) -> None:
    """Hold who holds what against the protocol, where it says that; the data are read for it.

    Raises:
        LotteryFLError: it is dealt otherwise than the protocol's, or the data are not here.
    """
    from lotteryfl.common.tasks import load_task, own_sources

    task = load_task(experiment, (*own_sources(experiment), *own.tasks))
    digest = getattr(task, "partition_sha256", None)
    if digest is None:
        return
    found, expected = digest(), chosen.partition_sha256.get(str(experiment.seed))
    if expected is None:
        note(f"partition: {found}; protocol {chosen.name} has none on record for seed {experiment.seed}")
    elif found != expected:
        raise LotteryFLError(
            f"the partition of seed {experiment.seed} is {found}, and protocol {chosen.name}'s {expected}: the "
            "data are not those of the protocol, or not in their order"
        )
