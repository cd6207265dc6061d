"""The command that says what of run directories could go, and lets it go."""

import re
from pathlib import Path

import click
from rich.filesize import decimal

from lotteryfl.commands.options.runs import strategy_option
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.text import printable

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


class _Age(click.ParamType[float]):
    """A time such as 12h or 7d, in seconds."""

    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,6})([mhdw])", str(value))
        if not found:
            self.fail(f"{value!r}: expected minutes, hours, days or weeks, as 30m, 12h, 7d or 2w", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


@click.command()
@click.argument("directories", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Remove it.")
@click.option(
    "--older-than", type=_Age(), default=0.0, metavar="AGE", help="Only what is as old, as 7d or 12h; backups too."
)
@click.option(
    "--keep", default="", metavar="RULE", help="Of kept models let go what evaluation.keep = RULE would not keep."
)
@strategy_option(passed_on=False)
def clean(directories: tuple[Path, ...], yes: bool, older_than: float, keep: str) -> None:
    """Say what of run directories (or all in a folder) could go, and with --yes remove it."""
    from lotteryfl.tending.clean import Rule, could_go, folders, let_go  # torch takes seconds to import

    rule = Rule(_rule(keep), older_than)
    total = 0
    for path in folders(directories):
        found = let_go(path, rule) if yes else could_go(path, rule)
        total += found.nbytes
        if found.left_alone:
            click.echo(printable(f"{path}: left alone: {found.left_alone}"))
            continue
        click.echo(printable(f"{path}: {len(found.removable)} files, {decimal(found.nbytes)}"))
        for each in found.removable:
            name = each.path.relative_to(path) if each.path != path else each.path
            click.echo(printable(f"  {decimal(each.nbytes):>9}  {name}: {each.why}"))
    click.echo(
        f"{decimal(total)} removed" if yes else f"{decimal(total)} could go{'; --yes removes it' if total else ''}"
    )


def _rule(keep: str) -> str:
    from lotteryfl.common.experiment.settings import EvaluationSettings

    try:
        return EvaluationSettings(keep=keep).keep if keep else ""
    except ValueError as error:
        raise ExperimentError(f"--keep {keep}: expected last, best or 'every N', as evaluation.keep") from error
