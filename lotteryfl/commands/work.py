"""The worker's command."""

import logging
import signal

import click

from lotteryfl.client.connection import Connection
from lotteryfl.client.limits import DEFAULT_MAX_EPOCHS, Limits
from lotteryfl.client.worker import Worker, WorkerSettings, full_name
from lotteryfl.commands.options import (
    any_task_version_option,
    channel_options,
    device_option,
    share_errors_option,
    task_option,
)
from lotteryfl.common.experiment.clientranges import parse_clients
from lotteryfl.common.memory.bounds import Bound, host_bound
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.running.device import choose_device
from lotteryfl.stopsignals import stop_signals


class ClientRange(click.ParamType[frozenset[int]]):
    """Clients as people write them: 0-9 or 0,3,7-9."""

    name = "clients"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[int]:
        """Return the set of client numbers."""
        try:
            return parse_clients(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("--coordinator", required=True, metavar="HOST:PORT", help="Where the coordinator listens.")
@device_option
@click.option("--clients", type=ClientRange(), help="The clients whose data is here, as 0-9 or 0,3,7-9. [default: all]")
@click.option(
    "--name",
    default="",
    help="Unique in the run: what certificate or token say, or that with /SUFFIX; only / at its end is completed with "
    "host and process number. [default: what certificate or token say, else host and process number]",
)
@task_option
@any_task_version_option
@click.option("--data-dir", default="", help="Folder of the built-in tasks' data. [default: the usual places]")
@click.option("--index-file", default="", help="Who holds what (partition.file). [default: of its name, in --data-dir]")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to go on trying while the coordinator cannot be reached.",
)
@click.option(
    "--max-epochs",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_EPOCHS,
    show_default=True,
    help="Refuse assignments of more epochs.",
)
@click.option(
    "--max-memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GIB",
    help="Refuse models that take more. [default: half of the machine's, or of its container's]",
)
@click.option(
    "--keep-data",
    type=click.IntRange(min=0),
    metavar="MIB",
    help="Keep clients' data that is tensors in memory on the device between assignments, up to so much. "
    "[default: on a CUDA device while half of its memory stays free, else 0]",
)
@share_errors_option
@channel_options
def work(
    coordinator: str,
    device: str,
    clients: frozenset[int] | None,
    name: str,
    tasks: tuple[str, ...],
    any_task_version: bool,
    data_dir: str,
    index_file: str,
    patience: float,
    max_epochs: int,
    max_memory: float | None,
    keep_data: int | None,
    share_errors: bool,
    security: ChannelSecurity,
) -> None:
    """Be a worker: fetch assignments, train, return tickets, until the run is over."""
    logging.getLogger("lotteryfl").setLevel(logging.INFO)
    memory = host_bound().halved() if max_memory is None else Bound(int(max_memory * 2**30), "--max-memory")
    limits = Limits(max_epochs, memory)
    chosen = choose_device(device)
    settings = WorkerSettings(
        full_name(name, security),
        chosen,
        clients,
        tasks,
        data_dir,
        limits,
        share_errors,
        any_task_version,
        index_file,
        None if keep_data is None else keep_data << 20,
    )
    try:
        with Connection(coordinator, patience, security) as connection:
            Worker(connection, settings).run()
    except KeyboardInterrupt:
        click.echo("stopped; what was under work was handed back", err=True)
        raise
    finally:
        for number in stop_signals():
            signal.signal(number, signal.SIG_IGN)  # nothing is left to interrupt but the way out
