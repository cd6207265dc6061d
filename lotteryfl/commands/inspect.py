"""Commands that look at a run.

What needs torch or gRPC is imported where it is used: asking for a status, as health checks do every few seconds,
must not cost the seconds that importing torch takes, and a directory's no gRPC either.
"""

from pathlib import Path

import click
from rich.filesize import decimal

from lotteryfl.commands.options import channel_options, strategy_option, task_option
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.common.text import printable
from lotteryfl.describe import describe_refusals, describe_round, describe_shared
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.leftout import describe_left_out
from lotteryfl.server.store.named import MOST_TOLD, cut


@click.command()
@click.argument("where", metavar="DIR|HOST:PORT")
@click.option("--json", "as_json", is_flag=True, help="As JSON, by the names of the contract's RunStatus.")
@channel_options
def status(where: str, as_json: bool, security: ChannelSecurity) -> None:
    """Say where a run stands, from its directory or its coordinator."""
    if Path(where).is_dir():
        found = _read(Path(where))
    elif ":" in where:
        found = _ask(where, security)
    else:
        raise LotteryFLError(f"{where}: neither a run directory nor HOST:PORT")
    click.echo(_as_json(found) if as_json else _describe(found))


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


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@strategy_option(passed_on=False)
def verify(directory: Path) -> None:
    """Check a run directory: database, rounds, masks, models, tickets."""
    from lotteryfl.server.results.verify import verify as verify_run

    report = verify_run(directory)
    for line in report.lines():
        click.echo(printable(line))
    if report.problems:
        raise LotteryFLError(f"{directory}: {report.problems} problem{'s'[: report.problems > 1]}")
    click.echo("sound")


def _read(directory: Path) -> pb.RunStatus:
    from lotteryfl.server.store.record import RunRecord, damage_named
    from lotteryfl.server.store.status import status_of

    with damage_named(directory), RunRecord(directory) as run:
        return status_of(run)


def _ask(address: str, security: ChannelSecurity) -> pb.RunStatus:
    import grpc

    from lotteryfl.common.security.channel import CALL_SECONDS, open_channel, raise_if_refused
    from lotteryfl.common.security.rpcerror import explain
    from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc

    with open_channel(address, security) as channel:
        try:
            reply: pb.RunStatus = pb_grpc.CoordinatorStub(channel).GetRun(pb.GetRunRequest(), timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise_if_refused(error, address, security)
            raise LotteryFLError(explain(error, address)) from error
    return reply


def _as_json(status: pb.RunStatus) -> str:
    """Return all of a status, with what is 0 or empty; JSON has every 64-bit number as a text."""
    from google.protobuf.json_format import MessageToJson

    return MessageToJson(status, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)


def _describe(status: pb.RunStatus) -> str:
    state = pb.RunStatus.State.Name(status.state).lower()
    lines = [
        f"{status.strategy}, {status.clients} clients: {state}{': ' if status.reason else ''}{status.reason}",
        f"rounds: {status.round} of {status.rounds} committed",
        f"open round: {status.results} of {status.assignments} results, {len(status.in_flight)} in flight",
        *(f"  {line}" for line in cut(status.in_flight, MOST_TOLD)),
        *(f"  {line}" for line in (*status.waits, status.goes_on) if line),
        *([f"workers: {status.workers} alive"] if status.heard else []),
        *(f"  {line}" for line in status.heard),
        f"traffic of the whole run: {decimal(status.bytes_down)} down, {decimal(status.bytes_up)} up",
    ]
    lines += map(describe_refusals, status.refusals)
    lines += map(describe_left_out, status.left_out)
    if status.HasField("last"):
        lines.append(describe_round(status))
    if status.HasField("shared"):
        lines.append(describe_shared(status.shared, status.score))
    if status.advice:
        lines.append(f"advice: {status.advice}")
    return "\n".join(map(printable, lines))
