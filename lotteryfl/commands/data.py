"""The command that looks at an experiment's data before anything is trained on it."""

from pathlib import Path

import click

from lotteryfl.commands.options import set_option
from lotteryfl.common.experiment.experiment import load
from lotteryfl.common.tasks import BUILT_IN, load_task
from lotteryfl.server.results.holdings import describe, heading, holdings
from lotteryfl.server.results.picture import draw_holdings


@click.command()
@click.argument("path", metavar="EXPERIMENT.toml", type=click.Path(path_type=Path))
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw who holds what.")
@set_option()
def data(path: Path, picture: Path | None, overrides: tuple[str, ...]) -> None:
    """Say which client holds how much of what, and how skewed that is."""
    experiment = load(path, overrides)
    own = () if experiment.task.name in BUILT_IN else (experiment.task.name,)
    held = holdings(load_task(experiment, own), experiment.clients)
    click.echo(describe(experiment, held))
    if picture is not None:
        draw_holdings(held.counts, heading(experiment), held.skew, picture)
        click.echo(f"{picture} written")
