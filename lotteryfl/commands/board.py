"""The command that puts records side by side."""

from pathlib import Path

import click

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.text import printable


@click.command()
@click.argument("records", metavar="RECORDS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the page.")
def board(records: tuple[Path, ...], out: Path) -> None:
    """Write a static page of records: tables, and fronts of scores against bytes."""
    from lotteryfl.board.entries import read_board
    from lotteryfl.board.write import write_board

    found = read_board(records)
    page = write_board(found, out)
    click.echo(f"{page} written, {len(found.entries)} record{'s'[: len(found.entries) != 1]}")
    for name, why in found.left_out:
        click.echo(printable(f"left out: {name}: {why}"))
    if found.left_out:
        raise LotteryFLError(f"{len(found.left_out)} of {len(found.left_out) + len(found.entries)} files are left out")
