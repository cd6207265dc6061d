"""Commands that look at a run.

What needs torch or gRPC is imported where it is used: asking for a status, as health checks do every few seconds,
must not cost the seconds that importing torch takes, and a directory's no gRPC either.
"""

import json
import time
from pathlib import Path
from typing import Any

import click
from google.protobuf.message import Message

from lotteryfl.commands.options.calls import channel_options
from lotteryfl.commands.options.runs import strategy_option, task_option
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.seeing.lines import describe
from lotteryfl.seeing.source import source_of


@click.command()
@click.argument("where", metavar="DIR|HOST:PORT")
@click.option("--clients", "with_clients", is_flag=True, help="Every client too, by its last result.")
@click.option(
    "--watch",
    "seconds",
    metavar="[SECONDS]",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value=2.0,
    help="Say it again every so many seconds (2), until the run has ended; with --json a line each time.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="As JSON, by the names of the contract's RunStatus; with `is_driven`, whether a process has it, `fleet`, its "
    "Fleet, and `clients_now`, its Clients.",
)
@channel_options
def status(where: str, with_clients: bool, seconds: float | None, as_json: bool, security: ChannelSecurity) -> None:
    """Say where a run stands, from its directory or its coordinator."""
    with source_of(where, security) as source:
        while True:
            is_driven, found, fleet = source.is_driven(), source.status(), source.fleet()
            clients = source.clients() if with_clients else None
            if as_json:
                click.echo(_as_json(found, fleet, clients, None if seconds else 2, is_driven=is_driven))
            else:
                click.echo(describe(found, fleet, clients, is_driven=is_driven))
            if not seconds or found.state != pb.RunStatus.RUNNING:
                return
            time.sleep(seconds)
            if not as_json:
                click.echo()


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--client", type=click.IntRange(min=0), help="Whose ticket.")
@click.option("--global", "of_all", is_flag=True, help="The global model.")
@click.option(
    "--round", "round_", type=click.IntRange(min=0), help="Whose, of those kept; 0: θ_0.  [default: the newest]"
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A .safetensors file, or an .onnx one.")
@click.option("--half", is_flag=True, help="Write float16.")
@click.option("--structured", is_flag=True, help="Take rows and filters out that are pruned whole: a smaller model.")
@click.option("--onnx", is_flag=True, help="Write ONNX, which runs without the model's code.")
@task_option
@strategy_option(passed_on=False)
def export(
    directory: Path,
    client: int | None,
    of_all: bool,
    round_: int | None,
    out: Path,
    half: bool,
    structured: bool,
    onnx: bool,
    tasks: tuple[str, ...],
) -> None:
    """Write a client's ticket, or the global model, as a plain state dict or as ONNX."""
    from lotteryfl.server.results.ticket import Form, export_global, export_ticket
    from lotteryfl.server.store.rundir import inspected

    if (client is not None) == of_all:
        raise click.UsageError("export: expected one of --client and --global")
    if client is not None and round_ is not None:
        raise click.UsageError("export: --round goes with --global: of a client there is its last ticket alone")
    form = Form(half, structured, onnx, tasks)
    with inspected(directory) as run:
        if client is None:
            left = export_global(run, out, form=form, round_=round_)
        else:
            left = export_ticket(run, client, out, form=form)
    click.echo(f"{out} written{f', {left.described()}' if left else ''}")


def _as_json(
    status: pb.RunStatus, fleet: pb.Fleet | None, clients: pb.Clients | None, indent: int | None, *, is_driven: bool
) -> str:
    """Return all that is known, with what is 0 or empty; JSON has every 64-bit number as a text."""
    from google.protobuf.json_format import MessageToDict

    def fields(message: Message) -> dict[str, Any]:
        return MessageToDict(message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)

    found = {**fields(status), "is_driven": is_driven}
    if fleet is not None:
        found["fleet"] = fields(fleet)
    if clients is not None:
        found["clients_now"] = fields(clients)
    return json.dumps(found, indent=indent)
