"""What the operator of a worker decides: its name, whose data it holds, what it takes on."""

import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch

from lotteryfl.client.limits import Limits
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.certificate import identity_of, load_certificate
from lotteryfl.common.security.identity import Identity, Role, check_name
from lotteryfl.common.security.tls import ChannelSecurity, token_name


@dataclass(frozen=True)
class WorkerSettings:
    """What the operator of a worker decides."""

    name: str
    """Unique in the run; a worker that starts again under its name replaces itself."""
    device: torch.device
    clients: Collection[int] | None
    """The clients whose data it holds; None: every client's."""
    tasks: Sequence[str]
    """The task files and modules, beside the built-in ones, that it is willing to run."""
    data_dir: str
    """Folder of the built-in tasks' data; empty: the usual places."""
    limits: Limits = field(default_factory=Limits)
    """What it takes on."""
    share_errors: bool = False
    """Tell the coordinator what errors of a client's work say, also of private clients."""
    any_task_version: bool = False
    """Take part also with another version of the task than the coordinator's."""
    index_file: str = ""
    """Who holds what, where the experiment says it by a file; empty: of its name, in `data_dir`."""
    keep_data: int | None = None
    """Bytes of clients' data that may stay on the device between assignments; None: see `KeptData`."""
    local: Sequence[str] = ()
    """The files and modules of local algorithms, beside the built-in ones, that it is willing to run."""
    any_local_version: bool = False
    """Take part also with another version of the local algorithm than the coordinator's."""


def full_name(name: str, security: ChannelSecurity) -> str:
    """Return the name to go by.

    Args:
        name: as it was given; with a / at its end it is completed, so that no other process has it. Empty: what
            certificate or token say, or else the name of host and process.
        security: certificate and token.

    Raises:
        LotteryFLError: certificate or token are another's, or cannot be used.
    """
    process = f"{socket.gethostname()}-{os.getpid()}"
    own = [Identity(token_name(security.token), Role.WORKER)] if security.token else []
    if security.tls.cert is not None:
        own.append(identity_of(load_certificate(security.tls.cert)))
    name = name or (own[0].name if own else process)
    if name.endswith("/"):
        name += process
    check_name(name)
    for identity in own:
        if not identity.owns(name):
            raise LotteryFLError(f"--name {name}: certificate or token are those of {identity.name}")
    return name
