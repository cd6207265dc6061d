"""What the interceptors and the service know of a call."""

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health

from lotteryfl.common.security.identity import Identity
from lotteryfl.protos import lotteryfl_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]

CALLER: ContextVar[Identity | None] = ContextVar("CALLER")
"""Who makes the call that is being answered; None: nobody was asked."""

SERVICE = f"/{pb.DESCRIPTOR.services_by_name['Coordinator'].full_name}/"
"""What the names of the coordinator's methods begin with."""

HEALTH = f"/{health.SERVICE_NAME}/"
"""What the names of the standard health service's methods begin with."""

_log = logging.getLogger("lotteryfl.coordinator")


async def abort(context: Context, code: grpc.StatusCode, reason: str) -> NoReturn:
    """End a call, and log why."""
    _log.info("%s: %s: %s", context.peer(), code.name, reason)
    await context.abort(code, reason)
    raise AssertionError
