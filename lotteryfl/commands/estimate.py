"""The command that says beforehand what a run will take."""

import json
from pathlib import Path

import click

from lotteryfl.commands.options.runs import device_option, own_code_options, set_option
from lotteryfl.common.experiment.experiment import load
from lotteryfl.estimating.described import described
from lotteryfl.estimating.estimate import estimate as estimated
from lotteryfl.estimating.measure import measured
from lotteryfl.running.cores import usable_cores
from lotteryfl.running.device import choose_device
from lotteryfl.running.owncode import OwnCode


@click.command()
@click.argument("path", metavar="EXPERIMENT.toml", type=click.Path(path_type=Path))
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="How many processes.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@set_option()
@own_code_options
@device_option
def estimate(path: Path, workers: int, as_json: bool, overrides: tuple[str, ...], own: OwnCode, device: str) -> None:
    """Say what a run will take in bytes, disk, memory and time, from one assignment of it that is really done."""
    chosen = choose_device(device)
    with measured(load(path, overrides), own, chosen) as found:
        result = estimated(found, workers, usable_cores(), chosen)
    click.echo(json.dumps(result.to_json(), indent=2) if as_json else described(result))
