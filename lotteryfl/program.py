"""The program `lotteryfl`: finds its commands, and turns errors into one line."""

import logging
import os
import signal
import sys
from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple

import click

from lotteryfl.allocator import keep_freed_memory
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.telemetry import logs
from lotteryfl.common.text import printable
from lotteryfl.exitcodes import INTERRUPTED
from lotteryfl.logsettings import set_up_logs
from lotteryfl.output import prepare_output
from lotteryfl.stopsignals import stop_signals


class Known(NamedTuple):
    """A command as it is known before its module is imported, which may take seconds."""

    module: str
    """The module of lotteryfl.commands that has the function of the command's name."""
    help: str
    """The first sentence of that function's docstring."""


COMMANDS = {
    "init": Known("init", "Write a commented experiment file."),
    "data": Known("data", "Say which client holds how much of what, and how skewed that is."),
    "estimate": Known(
        "estimate",
        "Say what a run will take in bytes, disk, memory and time, from one assignment of it that is really done.",
    ),
    "run": Known("run", "Run an experiment with local workers, or continue the run in DIR."),
    "serve": Known("run", "Be the coordinator of an experiment, or of the run in DIR."),
    "work": Known("work", "Be a worker: fetch assignments, train, return tickets, until the run is over."),
    "launch": Known(
        "launch",
        "Run an experiment on other machines, follow it, and bring it back; RUN_DIR's launch is followed again.",
    ),
    "simulate": Known("run", "Run an experiment in this one process, with the same result as over gRPC."),
    "status": Known("inspect", "Say where a run stands, from its directory or its coordinator."),
    "watch": Known(
        "watch", "Follow a run on the terminal until it has ended; where there is none, by a line for every round."
    ),
    "stop": Known(
        "steer", "End a coordinator as SIGTERM does: what was counted is kept, and its run can be taken up again."
    ),
    "pause": Known(
        "steer", "Have no more work given out, until `resume`: what is under work still counts, and no deadline passes."
    ),
    "resume": Known("steer", "Let a run go on that was paused; in DIR one that no process has."),
    "drain": Known("steer", "Have the open round brought to its end, then end the coordinator; its workers leave."),
    "readmit": Known("steer", "Give work again to a worker that was put aside for its refused results."),
    "doctor": Known(
        "doctor", "Say whether all is well with this machine, and with a run, a coordinator or an experiment."
    ),
    "export": Known("inspect", "Write a client's ticket, or the global model, as a plain state dict or as ONNX."),
    "submit": Known(
        "submit", "Write the records of finished runs (or of all runs in a folder): small files to give away."
    ),
    "board": Known("board", "Write a static page of records: tables, and fronts of scores against bytes."),
    "verify": Known(
        "verify", "Check a run directory: database, rounds, masks, models, tickets; or what a record of one says."
    ),
    "clean": Known("clean", "Say what of run directories (or all in a folder) could go, and with --yes remove it."),
    "compare": Known(
        "compare", "Compare strategies over seeds; what has finished is kept, what was interrupted goes on."
    ),
    "rank": Known(
        "rank",
        "Rank strategies over settings, and say whether they differ: each innermost folder of records is a setting.",
    ),
    "reproduce": Known(
        "reproduce",
        "Run a protocol of the literature, or list them, and say how the result stands beside what is published.",
    ),
    "report": Known(
        "report", "Write a page with pictures of runs (or of all runs in a folder), or export their metrics."
    ),
    "track": Known("track", "Feed trackers with a run, each round as it is committed, until the run has ended."),
    "dashboard": Known(
        "dashboard", "Show runs, finished or not (or all runs in a folder), as a page in a browser: it only looks."
    ),
    "support": Known("support", "Write a bundle of a run for a bug report: without secrets, models or data."),
    "certs": Known(
        "security",
        "Make certificates for mutual TLS, under an authority of their own in DIR; what is there stays as it is.",
    ),
    "token": Known("security", "Make a token by which NAME shows who it is, and print it: FILE only gets its SHA-256."),
}


class _Commands(click.Group):
    """Commands by name, imported when called: help costs no torch, and a worker needs no coordinator."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"lotteryfl.commands.{COMMANDS[cmd_name].module}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, known.help) for name, known in COMMANDS.items()])


def _tell_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from lotteryfl.common.security.channel import PROTOCOL_VERSION  # with gRPC, which takes its time

        click.echo(f"lotteryfl, version {version('lotteryfl')} (protocol {PROTOCOL_VERSION})")
        context.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_tell_version, help="Show it and exit."
)
@click.option("--verbose", "-v", is_flag=True, help="Log every assignment.")
def program(verbose: bool) -> None:
    """Federated training of sparse, personalised models: every client finds its own lottery ticket."""
    if verbose:
        logs.tell_more()


def main() -> None:
    """Run the program: exit code 0 on success, 1 on an error, 2 on wrong usage, 130 when interrupted.

    3 is that of a run that has finished, and that clients were left out of, 4 that of a worker whose device is gone, 5
    where a task is here in another version than the run's.
    """
    for number in stop_signals():  # as Ctrl-C, also while torch is still being imported
        signal.signal(number, signal.default_int_handler)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what the user needs of its errors, ours say
    keep_freed_memory()
    try:
        set_up_logs(sys.argv[1:], COMMANDS)
        prepare_output()
        program.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        if logs.is_json():
            logs.say(printable(error.format_message()), logging.ERROR)
        else:
            error.show()
        sys.exit(error.exit_code)
    except LotteryFLError as error:
        logs.say(printable(" ".join(str(error).split())), logging.ERROR)  # one line, whatever it quotes
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
