"""The command that begins an experiment."""

import shlex
from importlib import resources
from pathlib import Path

import click

from lotteryfl.common.errors import LotteryFLError


@click.command()
@click.argument("path", metavar="[FILE]", default="experiment.toml", type=click.Path(path_type=Path))
def init(path: Path) -> None:
    """Write a commented experiment file."""
    text = resources.files("lotteryfl.common.experiment").joinpath("template.toml").read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise LotteryFLError(f"{path}: exists already; name another file") from error
    except OSError as error:
        raise LotteryFLError(f"{path}: cannot be written: {error.strerror}") from error
    click.echo(f"{path} written; try: lotteryfl run {shlex.quote(str(path))} --workers 2")
