"""A coordinator as a process, with its page: where each is, and what a worker by hand needs to know of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lotteryfl.common.security.channel import open_channel
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from tests.support.processes import Process
from tests.support.runs import GATED_TASK, Start


@dataclass
class Served:
    """A coordinator that serves."""

    process: Process
    page: str
    stub: pb_grpc.CoordinatorStub
    task: str = str(GATED_TASK)


@contextmanager
def serving(start: Start, source: Path, *options: object) -> Iterator[Served]:
    """Serve an experiment or the run in a directory, with a page."""
    process = start("serve", source, "--listen", "127.0.0.1:0", *options)
    address, page = (process.said(rf"^{re.escape(said)} (\S+)")[1] for said in ("listening at", "page:"))
    with open_channel(address, ChannelSecurity()) as channel:
        yield Served(process, page, pb_grpc.CoordinatorStub(channel))
