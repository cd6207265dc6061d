"""Where a run stands, its workers and its clients, in lines for people."""

from collections.abc import Iterator

from rich.filesize import decimal

from lotteryfl.common.text import printable
from lotteryfl.common.training.score import Score
from lotteryfl.describe import describe_refusals, describe_round, describe_shared, describe_state
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.leftout import describe_left_out
from lotteryfl.server.rounds.machine import Machine
from lotteryfl.server.store.named import MOST_TOLD, cut

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_DIGEST = 8
"""Characters of a mask's digest: masks are told apart by them."""


def describe(
    status: pb.RunStatus,
    fleet: pb.Fleet | None = None,
    clients: pb.Clients | None = None,
    *,
    is_driven: bool = True,
) -> str:
    """Return where a run stands, what is known of its workers, and of single clients where they are asked for."""
    lines = [
        f"{status.strategy}, {status.clients} clients: {describe_state(status, is_driven=is_driven)}",
        f"rounds: {status.round} of {status.rounds} committed",
        f"open round: {status.results} of {status.assignments} results, {len(status.in_flight)} in flight",
        *(f"  {line}" for line in cut(status.in_flight, MOST_TOLD)),
        *(f"  {line}" for line in (*status.waits, status.goes_on if is_driven else "") if line),
        *([f"workers: {status.workers} alive"] if status.heard or (fleet and fleet.workers) else []),
        *(f"  {line}" for line in (status.heard if fleet is None else _fleet(fleet))),
        f"traffic of the whole run: {decimal(status.bytes_down)} down, {decimal(status.bytes_up)} up",
        *([f"time left: about {left}, as the last rounds went"] if (left := time_left(status)) else []),
    ]
    lines += map(describe_refusals, status.refusals)
    lines += map(describe_left_out, status.left_out)
    if status.HasField("last"):
        lines.append(describe_round(status))
    if status.HasField("shared"):
        lines.append(describe_shared(status.shared, status.score))
    if status.advice:
        lines.append(f"advice: {status.advice}")
    if clients is not None:
        lines += _clients(clients, status.score)
    return "\n".join(map(printable, lines))


def time_left(status: pb.RunStatus) -> str:
    """Return how long a run is likely to take still; '': nobody knows, or it has ended."""
    if status.state != pb.RunStatus.RUNNING or not status.HasField("seconds_left"):
        return ""
    return duration(status.seconds_left)


def duration(seconds: float) -> str:
    """Return a time as people say it, in its two greatest units."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def machine_of(worker: pb.WorkerStatus) -> str:
    """Return what a worker computes on; '': it does not say."""
    machine = worker.machine
    return str(Machine(machine.device, machine.device_memory, machine.torch_version))


def load_of(worker: pb.WorkerStatus) -> str:
    """Return what a worker takes of its machine; '': it does not say."""
    if not worker.HasField("load"):
        return ""
    load = worker.load
    of_device = f", {decimal(load.device_memory)} of its device" if load.device_memory else ""
    return f"{decimal(load.memory)}{of_device}, {load.steps_per_second:.1f} steps/s"


def doing(holding: pb.Holding) -> str:
    """Return what a worker is at with one of its assignments."""
    if not holding.arrived:
        return f"client {holding.client}: on its way"
    if holding.returning:
        return f"client {holding.client}: returning"
    if not holding.step:
        return f"client {holding.client}"
    return f"client {holding.client}: epoch {holding.epoch}, step {holding.step}, loss {holding.loss:.3f}"


def _fleet(fleet: pb.Fleet) -> Iterator[str]:
    for worker in fleet.workers[:MOST_TOLD]:
        name = worker.machine.worker
        if worker.aside:
            yield f"{name} gets no more work: {worker.aside}"
            continue
        machine = machine_of(worker)
        yield f"{name}{f' ({machine})' if machine else ''} was heard of {worker.silent:.0f} s ago"
        held = "every client" if worker.holds_all else f"{worker.clients} clients"
        load = load_of(worker)
        yield f"  {'lost, ' if worker.is_lost else ''}holds {held}{f', takes {load}' if load else ''}"
        for holding in worker.holdings:
            attempt = f", attempt {holding.attempt}" if holding.attempt > 1 else ""
            yield f"  {doing(holding)}; for {duration(holding.held)}{attempt}, its lease ends in {holding.lease:.0f} s"
    if others := len(fleet.workers[MOST_TOLD:]) + fleet.others:
        yield f"and {others} more"


def _clients(clients: pb.Clients, name: str) -> Iterator[str]:
    """Yield how each client stands by its last result, in columns."""
    score = Score.of(name)
    yield f"clients by their last results ({score.name} of the model as downloaded, and after local training):"
    if clients.withheld:
        yield "  scores, densities and masks are withheld: the run promises privacy, and its directory has them"
    yield "  client  round  downloaded  personalised  density  mask      seconds  left out  served by"
    for client in clients.clients:
        if not client.round:
            yield f"  {client.client:6}      -{client.left_out:58}"
            continue
        downloaded = f"{client.downloaded:{score.digits}}" if client.HasField("downloaded") else "-"
        personalised = f"{client.personalised:{score.digits}}" if client.HasField("personalised") else "-"
        density = f"{client.density:.3f}" if client.HasField("density") else "-"
        mask = "-" if clients.withheld else client.mask[:_DIGEST] or "dense"
        yield (
            f"  {client.client:6}  {client.round:5}  {downloaded:>10}  {personalised:>12}  {density:>7}  {mask:8}"
            f"  {client.seconds:7.1f}  {client.left_out:8}  {client.worker}"
        )
