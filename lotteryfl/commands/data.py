"""The command that looks at an experiment's data before anything is trained on it."""

from pathlib import Path

import click

from lotteryfl.commands.options.runs import set_option, task_option
from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment, load
from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.pruning.prunable import explain
from lotteryfl.common.tasks import Task, load_task, own_sources
from lotteryfl.server.results.holdings import UNLABELLED, describe, heading, holdings
from lotteryfl.server.results.picture import draw_holdings


@click.command()
@click.argument("path", metavar="EXPERIMENT.toml", type=click.Path(path_type=Path))
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw who holds what.")
@click.option("--prunable", is_flag=True, help="List the model's tensors: which can be pruned, and why others cannot.")
@set_option()
@task_option
def data(path: Path, picture: Path | None, prunable: bool, overrides: tuple[str, ...], tasks: tuple[str, ...]) -> None:
    """Say which client holds how much of what, and how skewed that is."""
    experiment = load(path, overrides)
    own = (source for source in own_sources(experiment) if task_id(source) not in map(task_id, tasks))
    task = load_task(experiment, (*own, *tasks))
    held = holdings(task, experiment.clients)
    click.echo(describe(experiment, held))
    if prunable:
        click.echo(f"\n{_explained(task, experiment)}")
    if picture is not None:
        if not held.labelled:
            raise TaskError(f"task {task.name}: --picture {picture}: it is of classes, and {UNLABELLED}")
        draw_holdings(held.counts, heading(experiment), held.skew, picture)
        click.echo(f"{picture} written")


def _explained(task: Task, experiment: Experiment) -> str:
    model = task.model()
    try:
        return explain(model, experiment.strategy.prunable)
    except ValueError as error:
        raise TaskError(f"task {task.name}: {error}") from error
