"""Commands by which an operator steers a run."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from lotteryfl.commands.options.calls import channel_options
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.common.text import printable
from lotteryfl.protos import lotteryfl_pb2 as pb

_where = click.argument("where", metavar="HOST:PORT")


def _steering(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what all of these take: `reason`, and `security`."""
    reason = click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
    return reason(channel_options(command))


@click.command()
@_where
@_steering
def stop(where: str, reason: str, security: ChannelSecurity) -> None:
    """End a coordinator as SIGTERM does: what was counted is kept, and its run can be taken up again."""
    _steer(where, security, action=pb.SteerRunRequest.STOP, reason=reason)


@click.command()
@_where
@_steering
def pause(where: str, reason: str, security: ChannelSecurity) -> None:
    """Have no more work given out, until `resume`: what is under work still counts, and no deadline passes."""
    _steer(where, security, action=pb.SteerRunRequest.PAUSE, reason=reason)


@click.command()
@click.argument("where", metavar="HOST:PORT|DIR")
@_steering
def resume(where: str, reason: str, security: ChannelSecurity) -> None:
    """Let a run go on that was paused; in DIR one that no process has."""
    if Path(where).is_dir():
        _resume(Path(where), reason)
    else:
        _steer(where, security, action=pb.SteerRunRequest.RESUME, reason=reason)


@click.command()
@_where
@_steering
def drain(where: str, reason: str, security: ChannelSecurity) -> None:
    """Have the open round brought to its end, then end the coordinator; its workers leave."""
    _steer(where, security, action=pb.SteerRunRequest.DRAIN, reason=reason)


@click.command()
@_where
@click.argument("worker")
@_steering
def readmit(where: str, worker: str, reason: str, security: ChannelSecurity) -> None:
    """Give work again to a worker that was put aside for its refused results."""
    _steer(where, security, action=pb.SteerRunRequest.TAKE_BACK, worker=worker, reason=reason)


def _steer(address: str, security: ChannelSecurity, **request: Any) -> None:
    from lotteryfl.common.security.channel import CALL_SECONDS, asked, open_channel
    from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc

    with open_channel(address, security) as channel:
        call = partial(pb_grpc.CoordinatorStub(channel).SteerRun, pb.SteerRunRequest(**request), timeout=CALL_SECONDS)
        reply: pb.SteerRunReply = asked(call, address, security)
    click.echo(printable(reply.text))


def _resume(directory: Path, reason: str) -> None:
    from lotteryfl.server.operating.steering import resume_unattended
    from lotteryfl.server.store.rundir import RunDirectory

    with RunDirectory(directory) as run:
        click.echo(printable(resume_unattended(run, reason)))
