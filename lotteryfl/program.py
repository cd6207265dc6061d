"""The program `lotteryfl`: finds its commands in server/ and client/, and turns errors into one line."""

import logging
import os
import signal
import sys
from importlib import import_module

import click

from lotteryfl.allocator import keep_freed_memory
from lotteryfl.common.errors import LotteryFLError

_COMMANDS = {
    "init": "lotteryfl.commands.init:init",
    "data": "lotteryfl.commands.data:data",
    "run": "lotteryfl.commands.run:run",
    "serve": "lotteryfl.commands.run:serve",
    "work": "lotteryfl.commands.work:work",
    "simulate": "lotteryfl.commands.run:simulate",
    "status": "lotteryfl.commands.inspect:status",
    "export": "lotteryfl.commands.inspect:export",
    "verify": "lotteryfl.commands.inspect:verify",
    "compare": "lotteryfl.commands.compare:compare",
    "report": "lotteryfl.commands.report:report",
    "certs": "lotteryfl.commands.security:certs",
    "token": "lotteryfl.commands.security:token",
}
INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells have it."""


class _Commands(click.Group):
    """Commands by name, imported when called: `common` knows neither side, a worker needs no coordinator."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, function = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), function)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lotteryfl")
@click.option("--verbose", "-v", is_flag=True, help="Log every assignment.")
def program(verbose: bool) -> None:
    """Federated training of sparse, personalised models: every client finds its own lottery ticket."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("lotteryfl").setLevel(logging.INFO if verbose else logging.WARNING)


def main() -> None:
    """Run the program: exit code 0 on success, 1 on an error, 2 on wrong usage, 130 when interrupted."""
    # As Ctrl-C: Slurm, Kubernetes and `docker stop` send SIGTERM, perhaps while torch is still being imported.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what the user needs of its errors, ours say
    keep_freed_memory()
    try:
        program.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except LotteryFLError as error:
        click.echo(f"lotteryfl: {' '.join(str(error).split())}", err=True)  # one line, whatever it quotes
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
