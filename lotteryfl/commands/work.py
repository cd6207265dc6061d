"""The worker's command."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import torch
from click.core import ParameterSource

from lotteryfl.client.connection import Connection
from lotteryfl.client.counted import Counted
from lotteryfl.client.limits import DEFAULT_MAX_EPOCHS, Limits
from lotteryfl.client.settings import WorkerSettings, full_name
from lotteryfl.client.worker import Worker
from lotteryfl.commands.options.calls import channel_options
from lotteryfl.commands.options.logs import log_options, traces_option
from lotteryfl.commands.options.runs import (
    any_local_version_option,
    any_task_version_option,
    device_option,
    local_option,
    share_errors_option,
    task_option,
)
from lotteryfl.commands.options.telling import metrics_option
from lotteryfl.common.experiment.clientranges import parse_clients
from lotteryfl.common.memory.bounds import Bound, host_bound
from lotteryfl.common.prometheus.exposing import check_exposed, exposed
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.common.telemetry.logs import say
from lotteryfl.common.text import printable
from lotteryfl.running.device import choose_device, places, seen
from lotteryfl.running.deviceworkers import DeviceWorkers, name_of_all
from lotteryfl.running.parent import Parent, stop_once
from lotteryfl.signals import run_until_signal
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


class PerDevice(click.ParamType[int | None]):
    """A number of workers; auto is None: it is to be found."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Return the number."""
        if value == "auto":
            return None
        try:
            number = int(str(value))
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r}: expected auto or a number from 1 on", param, ctx)
        return number


@click.command()
@click.option("--coordinator", required=True, metavar="HOST:PORT", help="Where the coordinator listens.")
@device_option
@click.option(
    "--devices",
    metavar="all|KIND[:NUMBERS]",
    help="Be a worker on each of these, as processes of their own: all, cpu, cuda:0,2, cuda:0-3. In place of --device.",
)
@click.option(
    "--per-device",
    type=PerDevice(),
    metavar="N|auto",
    default="1",
    show_default=True,
    help="So many workers on each of --devices; auto: as memory and throughput of the first assignments allow.",
)
@click.option("--clients", type=ClientRange(), help="The clients whose data is here, as 0-9 or 0,3,7-9. [default: all]")
@click.option(
    "--name",
    default="",
    help="Unique in the run: what certificate or token say, or that with /SUFFIX; only / at its end is completed with "
    "host and process number. [default: what certificate or token say, else host and process number]",
)
@task_option
@any_task_version_option
@local_option
@any_local_version_option
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
@log_options
@traces_option
@metrics_option
@channel_options
@click.option("--sharers", type=click.IntRange(min=1), default=1, hidden=True)
@click.option("--parent", type=click.IntRange(min=0), hidden=True)
@click.pass_context
def work(
    context: click.Context,
    coordinator: str,
    device: str,
    devices: str | None,
    per_device: int | None,
    clients: frozenset[int] | None,
    name: str,
    tasks: tuple[str, ...],
    any_task_version: bool,
    local: tuple[str, ...],
    any_local_version: bool,
    data_dir: str,
    index_file: str,
    patience: float,
    max_epochs: int,
    max_memory: float | None,
    keep_data: int | None,
    share_errors: bool,
    metrics: str,
    security: ChannelSecurity,
    sharers: int,
    parent: int | None,
) -> None:
    """Be a worker: fetch assignments, train, return tickets, until the run is over."""
    if devices is None and context.get_parameter_source("per_device") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--per-device: expected it with --devices")
    if metrics:
        check_exposed(metrics)
    if devices is not None and parent is None:
        _work_on(context, devices, per_device, name_of_all(name, security), metrics)
        return
    memory = host_bound().shared(sharers) if max_memory is None else Bound(int(max_memory * 2**30), "--max-memory")
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
        local,
        any_local_version,
    )
    overseer = None
    if parent is not None:
        stop_once()
        overseer = Parent(parent, chosen)
    counted = Counted()
    try:
        with _exposed(metrics, counted, chosen), Connection(coordinator, patience, security, counted.stages) as channel:
            Worker(channel, settings, overseer, counted).run()
    except KeyboardInterrupt:
        say("stopped; what was under work was handed back")
        raise
    finally:
        for number in stop_signals():
            signal.signal(number, signal.SIG_IGN)  # nothing is left to interrupt but the way out


@contextmanager
def _exposed(address: str, counted: Counted, device: torch.device) -> Iterator[None]:
    """Have Prometheus answered while the block runs, where there is an address for it."""
    if not address:
        yield
        return
    from lotteryfl.client.prometheus import WorkerCollector

    with exposed(address, WorkerCollector(counted, device)) as url:
        say(f"metrics at {url}")
        yield


def _work_on(context: click.Context, devices: str, per_device: int | None, name: str, metrics: str) -> None:
    """Be a worker on each of several devices."""
    if context.get_parameter_source("device") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--device: expected it without --devices")
    places_ = places(devices, seen())
    if metrics:
        check_exposed(metrics, len(places_) * (per_device or 1) - 1)
    workers = DeviceWorkers(places_, per_device, name, sys.argv[1:], lambda text: say(printable(text)), metrics)
    try:
        run_until_signal(workers.run())
    except (asyncio.CancelledError, KeyboardInterrupt) as error:
        say("stopped; what was under work was handed back")
        raise click.Abort from error
