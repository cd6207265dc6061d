"""What the interceptors and the service know of a call."""

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, NoReturn

import grpc
from grpc_health.v1 import health

from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import MAX_NAME, Identity, name_of
from lotteryfl.common.telemetry.about import bind, named_in
from lotteryfl.common.telemetry.tracing import Span, join, sent
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


class Sender(NamedTuple):
    """The worker that a message says it is from."""

    name: str
    id: WorkerId
    assignment_id: str
    """Of the work that the message is about; '': of none."""


def sender_of(message: object) -> Sender | None:
    """Return who a message says it is from; None: it need not say."""
    if isinstance(message, pb.RegisterRequest):
        return Sender(message.name, WorkerId(f"{message.name}:{message.incarnation}"), "")
    header = message.result if isinstance(message, pb.ResultPart) and message.HasField("result") else message
    if not hasattr(header, "worker_id"):
        return None
    worker_id = WorkerId(header.worker_id)
    return Sender(name_of(worker_id), worker_id, getattr(header, "assignment_id", ""))


def bind_call(message: object) -> None:
    """Let what is logged of a call say whom and what it is about, by its first message."""
    if (sender := sender_of(message)) and sender.id:
        bind(worker=sender.name[:MAX_NAME], **named_in(sender.assignment_id))


def join_trace(lease: Span, context: Context) -> None:
    """Have what is done in a call be part of its sender's span, where that is of the lease's trace; else of the lease.

    All that is taken of what the sender says is an id: which span there is the parent.
    """
    if lease.parent is not None:
        told = sent(context.invocation_metadata())
        is_ours = told is not None and told.trace_id == lease.parent.trace_id
        join(lease.parent._replace(span_id=told.span_id) if told and is_ours else lease.parent)


async def abort(context: Context, code: grpc.StatusCode, reason: str) -> NoReturn:
    """End a call, and log why."""
    _log.info("%s: %s: %s", context.peer(), code.name, reason)
    await context.abort(code, reason)
    raise AssertionError
