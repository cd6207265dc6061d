"""The command that shows what runs came to."""

from pathlib import Path

import click

from lotteryfl.commands.options.runs import task_option
from lotteryfl.server.results.reporting.data import read_run
from lotteryfl.server.results.reporting.groups import group_runs
from lotteryfl.server.results.trackers.export import export
from lotteryfl.server.results.trackers.tracker import without_secrets
from lotteryfl.server.store.findruns import find_runs


@click.command()
@click.argument("directories", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for index.html and the pictures. [default: report, where nothing is exported]",
)
@task_option
@click.option("--tensorboard", metavar="LOGDIR", help="Write event files for TensorBoard.")
@click.option("--mlflow", metavar="URI", help="Log the runs to an MLflow tracking server or folder.")
@click.option("--wandb", metavar="PROJECT", help="Log the runs to a project of Weights & Biases.")
@click.option("--trackio", metavar="PROJECT", help="Log the runs to a project of Trackio.")
def report(directories: tuple[Path, ...], out: Path | None, tasks: tuple[str, ...], **targets: str | None) -> None:
    """Write a page with pictures of runs (or of all runs in a folder), or export their metrics."""
    runs = [read_run(path) for path in find_runs(directories)]
    wanted = {name: place for name, place in targets.items() if place is not None}
    for name, place in wanted.items():
        export([run.path for run in runs], name, place)
        click.echo(f"{len(runs)} run{'s'[: len(runs) > 1]} exported to {without_secrets(place)}")
    if out is not None or not wanted:
        from lotteryfl.server.results.reporting.write import write_report

        click.echo(f"{write_report(group_runs(runs), out or Path('report'), tasks)} written")
