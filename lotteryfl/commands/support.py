"""The command that writes what a bug report needs."""

from pathlib import Path

import click
from rich.filesize import decimal

from lotteryfl.commands.options.runs import strategy_option


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE.zip", help="The bundle.")
@strategy_option(passed_on=False)
def support(directory: Path, out: Path) -> None:
    """Write a bundle of a run for a bug report: without secrets, models or data."""
    from lotteryfl.server.store.findruns import require_run
    from lotteryfl.tending.support.bundle import parts, write

    require_run(directory)
    bundle = list(parts(directory))
    write(out, bundle)
    for part in bundle:
        click.echo(f"{decimal(len(part.content.encode())):>9}  {part.name}: {part.what}")
    click.echo(f"{out} written, of {decimal(out.stat().st_size)}: look at it before you give it away")
