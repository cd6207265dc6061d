"""Spans of what is done, for whoever traces a run: none at all, unless this process was told where they go.

A span is made of what is part of a round's trace: of what is not, such as a worker's start, there is none.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.text import printable

KEY = "traceparent"
"""Of gRPC metadata, by the W3C's Trace Context: which span of the sender the receiver's are part of."""

AS_OTEL = "otel"
"""The target that stands for what the environment says, by OpenTelemetry's own variables."""

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)


class TracingError(LotteryFLError):
    """Spans cannot be sent where they were to go."""

    exit_code = 2


class Parent(NamedTuple):
    """A span of another process, as it was sent; nothing but ids."""

    trace_id: int
    span_id: int
    is_sampled: bool

    @classmethod
    def parse(cls, text: object) -> Self | None:
        """Read a traceparent, which may be anything; None: it is none."""
        match = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
        return cls(int(match[1], 16), int(match[2], 16), bool(int(match[3], 16) & 1)) if match else None

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.is_sampled:02x}"


class Span:
    """Something that takes time, as a context manager or until `end`; this very one is none."""

    parent: Parent | None = None
    """It, as what others are part of; None: it is none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; what is raised leaves its type with it, and no more: messages may be a client's."""

    def end(self, trouble: str = "") -> None:
        """End it.

        Args:
            trouble: why it came to nothing.
        """


NO_SPAN = Span()
_NOTHING = nullcontext()


class Tracer:
    """Makes spans; this very one makes none."""

    is_on = False

    def span(self, name: str, **attributes: str | int) -> Span:  # noqa: ARG002
        """See `span`."""
        return NO_SPAN

    def begin(self, name: str, parent: Span, ids: str, **attributes: str | int) -> Span:  # noqa: ARG002
        """See `begin`."""
        return NO_SPAN

    def join(self, parent: Parent | None) -> None:
        """See `join`."""

    def within(self, parent: Parent | None) -> AbstractContextManager[None]:  # noqa: ARG002
        """See `within`."""
        return _NOTHING

    def here(self) -> Parent | None:
        """See `here`."""
        return None

    def close(self) -> None:
        """Send what is left, but wait for nobody for long."""


_NONE = Tracer()
_tracer = _NONE


def is_on() -> bool:
    """Tell whether there are spans at all."""
    return _tracer.is_on


def span(name: str, **attributes: str | int) -> Span:
    """Return a span of what the block does, with `about`'s fields; what is done in it is part of it."""
    return _tracer.span(name, **attributes)


@contextmanager
def each_of(spans: Iterable[Span]) -> Iterator[None]:
    """Have several spans of what the block does, each of another trace or part of it."""
    with ExitStack() as stack:
        for each in spans:
            stack.enter_context(each)
        yield


def begin(name: str, parent: Span = NO_SPAN, ids: str = "", **attributes: str | int) -> Span:
    """Begin a span that `end` ends; entered as a block, it is what is done there, too.

    Args:
        name: of it.
        parent: what it is part of; NO_SPAN: it is the first of a trace of its own.
        ids: what its id, and the one of a trace of its own, are made of: whoever begins it anew gives it the same.
        attributes: what it is known by.
    """
    return _tracer.begin(name, parent, ids, **attributes)


def join(parent: Parent | None) -> None:
    """Have all spans from now on, in a context that is nobody else's, be part of another process's span."""
    _tracer.join(parent)


def within(parent: Parent | None) -> AbstractContextManager[None]:
    """Have the spans of the block be part of a span."""
    return _tracer.within(parent)


def here() -> Parent | None:
    """Return the span that is under way, as what others are part of; None: there is none."""
    return _tracer.here()


def to_send(parent: Parent | None) -> tuple[tuple[str, str], ...] | None:
    """Return a call's metadata that bring a span; None: there is none."""
    return None if parent is None else ((KEY, str(parent)),)


def sent(metadata: Iterable[tuple[str, object]] | None) -> Parent | None:
    """Return what a call has brought of a span; None: nothing that is one."""
    found = [value for key, value in metadata or () if key == KEY]
    return Parent.parse(found[0]) if len(found) == 1 else None


def switch_on(target: str, service: str) -> None:
    """Send spans from now on.

    Args:
        target: HOST:PORT or a URL of an OTLP collector that speaks gRPC; AS_OTEL: what the environment says.
        service: what this process is called, unless the environment says otherwise.

    Raises:
        TracingError: the target is none, or what sends spans is not installed.
    """
    global _tracer
    endpoint = "" if target == AS_OTEL else _endpoint(target)
    try:
        from lotteryfl.common.telemetry.otlp import OtlpTracer
    except ImportError as error:
        raise TracingError("--traces needs OpenTelemetry: pip install 'lotteryfl[traces]'") from error
    _tracer = OtlpTracer(endpoint, service)


def switch_off() -> None:
    """Make no more spans, and send those that are left, if that goes soon."""
    global _tracer
    tracer, _tracer = _tracer, _NONE
    tracer.close()


def _endpoint(target: str) -> str:
    whole = target if "://" in target else f"http://{target}"
    try:
        url = urlsplit(whole)
        is_one = url.scheme in ("http", "https") and bool(url.hostname) and url.port is not None
    except ValueError:
        is_one = False
    if not is_one or "@" in target or whole.rstrip("/") != f"{url.scheme}://{url.netloc}":
        shown = "…" if "@" in target else printable(target[:80])  # what is before an @ may be a password
        raise TracingError(f"--traces {shown!r}: expected HOST:PORT, http://HOST:PORT, https://HOST:PORT or {AS_OTEL}")
    return f"{url.scheme}://{url.netloc}"
