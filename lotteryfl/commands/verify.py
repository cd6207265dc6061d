"""The command that checks a run directory, or what a record says.

What needs torch is imported where it is used.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lotteryfl.commands.options.runs import device_option, own_code_options, set_option
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.text import printable
from lotteryfl.running.owncode import OwnCode

if TYPE_CHECKING:
    from lotteryfl.records.marks import Way
    from lotteryfl.records.record import Record


@click.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--record",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Hold a record of `submit` against itself, and against the run in DIR.",
)
@click.option(
    "--rerun", is_flag=True, help="With --record: run its experiment again, in a temporary folder, and compare."
)
@click.option("--mark", is_flag=True, help="With --record: write beside it that it was verified, for `board`.")
@set_option(text="With --rerun: where files are here, as task.data_dir=DIR, and what the record withholds.")
@own_code_options
@device_option
def verify(
    directory: Path | None,
    file: Path | None,
    rerun: bool,
    mark: bool,
    overrides: tuple[str, ...],
    own: OwnCode,
    device: str,
) -> None:
    """Check a run directory: database, rounds, masks, models, tickets; or what a record of one says."""
    if file is not None:
        if directory is not None and rerun:
            raise click.UsageError("verify --record: expected one of RUN_DIR and --rerun")
        if mark and not (directory or rerun):
            raise click.UsageError(
                "verify --record --mark: expected a RUN_DIR or --rerun: a record vouches for nothing"
            )
        _verify_record(file, directory, overrides, own, device, rerun=rerun, mark=mark)
        return
    if directory is None:
        raise click.UsageError("verify: expected a run directory, or --record FILE")
    if rerun or mark or overrides:
        raise click.UsageError("verify: --rerun, --mark and --set go with --record")
    verify_run(directory)


def verify_run(directory: Path) -> None:
    """Check a run directory and say what was found.

    Raises:
        LotteryFLError: it is not sound.
    """
    from lotteryfl.server.results.verify import verify as report_of

    report = report_of(directory)
    for line in report.lines():
        click.echo(printable(line))
    if report.problems:
        raise LotteryFLError(f"{directory}: {_counted(report.problems, 'problem')}")
    click.echo("sound")


def _verify_record(
    file: Path,
    directory: Path | None,
    overrides: tuple[str, ...],
    own: OwnCode,
    device: str,
    *,
    rerun: bool,
    mark: bool,
) -> None:
    from lotteryfl.records.agreeing import disagreements
    from lotteryfl.records.differing import differences
    from lotteryfl.records.files import read_record
    from lotteryfl.records.marks import mark as write_mark

    record = read_record(file)
    found, way = disagreements(record), None
    _tell("itself", len(found))
    if directory is not None or rerun:
        again, way = _again(record, directory, overrides, own, device)
        others = differences(record, again, is_same_run=way == "its run")
        _tell("another run of its experiment" if rerun else str(directory), len(others))
        found += others
        _tell_versions(record, again)
    for difference in found:
        click.echo(printable(f"differs: {difference}"))
    if found:
        raise LotteryFLError(f"{file}: {_counted(len(found), 'field')} not as recorded")
    if mark and way:
        click.echo(f"{write_mark(file, way)} written")
    click.echo("as recorded" if way else "as recorded, as far as a record by itself can tell: see RUN_DIR and --rerun")


def _again(
    record: "Record", directory: Path | None, overrides: tuple[str, ...], own: OwnCode, device: str
) -> "tuple[Record, Way]":
    if directory is not None:
        from lotteryfl.records.making import record_of

        return record_of(directory), "its run"
    from rich.console import Console

    from lotteryfl.display import RunDisplay
    from lotteryfl.records.again import run_again

    with RunDisplay(Console(stderr=True)) as display:
        return run_again(record, own, overrides, device, display.show), "run again"


def _tell(against: str, number: int) -> None:
    click.echo(printable(f"{'BAD' if number else 'ok '} against {against}"))


def _tell_versions(record: "Record", again: "Record") -> None:
    """Say where what bits depend on is another here than where the record was made."""
    theirs, ours = record.made.model_dump(), again.made.model_dump()
    others = [f"{key} {theirs[key]} there, {ours[key]} here" for key in theirs if theirs[key] != ours[key]]
    if record.strategy_sha256 != again.strategy_sha256:
        others.append("the strategy's code is another")
    if others:
        click.echo(printable(f"made elsewhere, so bits may be others: {'; '.join(others)}"))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s'[: number > 1]}"
