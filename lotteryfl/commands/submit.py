"""The command that makes records of runs."""

from pathlib import Path

import click

from lotteryfl.commands.options.runs import strategy_option


@click.command()
@click.argument("directories", metavar="RUN_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder of records: NAME.json of NAME's run."
)
@strategy_option(passed_on=False)
def submit(directories: tuple[Path, ...], out: Path) -> None:
    """Write the records of finished runs (or of all runs in a folder): small files to give away."""
    from lotteryfl.records.files import ENDING, write_record
    from lotteryfl.records.making import record_of
    from lotteryfl.records.naming import named
    from lotteryfl.server.store.findruns import find_runs

    for name, path in named(find_runs(directories)).items():
        record = record_of(path)
        file = out / f"{name}{ENDING}"
        write_record(record, file)
        click.echo(f"{file} written{f', protocol {record.protocol}' if record.protocol else ''}")
