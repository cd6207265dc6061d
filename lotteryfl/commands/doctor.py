"""The command that says whether all is well.

What needs torch or gRPC is imported where it is used: either may be what is wrong.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import click

from lotteryfl.commands.options.calls import insecure_option, read_token_file, tls_options, token_file_option
from lotteryfl.commands.options.runs import set_option, strategy_option, task_option
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.tls import ChannelSecurity, TLSFiles
from lotteryfl.tending.doctor.check import Check, looked


class ChannelFiles(NamedTuple):
    """What secures a call, not read before it is made."""

    tls: TLSFiles
    token_file: Path | None
    insecure: bool

    def security(self) -> ChannelSecurity:
        """Read it.

        Raises:
            SecurityError: the token is none, or cannot be read.
        """
        return ChannelSecurity(self.tls, read_token_file(self.token_file), self.insecure)


@click.command()
@click.argument("where", metavar="[DIR|HOST:PORT|EXPERIMENT.toml]", default="")
@tls_options
@token_file_option
@click.option("--tokens", type=click.Path(path_type=Path), help="A coordinator's file of tokens, to look at.")
@insecure_option
@set_option(text="Override the experiment, as task.data_dir=DIR.")
@task_option
@strategy_option(passed_on=False)
def doctor(
    where: str,
    tls: TLSFiles,
    token_file: Path | None,
    tokens: Path | None,
    insecure: bool,
    overrides: tuple[str, ...],
    tasks: tuple[str, ...],
) -> None:
    """Say whether all is well with this machine, and with a run, a coordinator or an experiment."""
    from lotteryfl.tending.doctor.machine import checks_of_machine
    from lotteryfl.tending.doctor.secrets import checks_of_secrets

    path = Path(where)
    found: Counter[str] = Counter()
    for check in chain(
        checks_of_machine(path if path.is_dir() else Path.cwd()),
        checks_of_secrets(tls, token_file, tokens),
        _of(where, ChannelFiles(tls, token_file, insecure), overrides, tasks),
    ):
        click.echo(str(check))
        found[check.verdict] += 1
    click.echo(f"{found['ok']} ok, {found['warn']} to be looked at, {found['fail']} failed")
    if failed := found["fail"]:
        raise LotteryFLError(f"doctor: {failed} check{'s'[: failed > 1]} failed")


def _of(where: str, files: ChannelFiles, overrides: tuple[str, ...], tasks: tuple[str, ...]) -> Iterator[Check]:
    path = Path(where)
    if not where:
        return
    if path.is_dir():
        from lotteryfl.tending.doctor.run import checks_of_run

        yield from checks_of_run(path, tasks)
    elif path.is_file() or path.suffix == ".toml":
        from lotteryfl.tending.doctor.experiment import checks_of_experiment

        yield from checks_of_experiment(path, overrides, tasks)
    elif ":" in where:
        from lotteryfl.tending.doctor.coordinator import checks_of_coordinator

        def called() -> Iterator[Check]:
            yield from checks_of_coordinator(where, files.security())

        yield from looked("token", called)
    else:
        yield Check("fail", "argument", f"{where}: neither a run directory, an experiment file nor HOST:PORT")
