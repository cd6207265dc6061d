"""Spans by OpenTelemetry's SDK, sent to an OTLP collector by a thread of their own."""

import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import Token
from random import SystemRandom
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.grpc import exporter as otlp_exporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator

from lotteryfl.common.telemetry.about import fields
from lotteryfl.common.telemetry.tracing import NO_SPAN, Parent, Span, Tracer, TracingError

_log = logging.getLogger("lotteryfl.traces")

_CLOSE_SECONDS = 2.0
"""For how long a process that ends waits for the collector."""

_OWN_RANDOM = SystemRandom()
"""The SDK's ids and the exporter's pauses would come of the global generator, from which tasks draw beside them."""


class OtlpTracer(Tracer):
    """Makes spans that a collector gets, while it takes them."""

    is_on = True

    def __init__(self, endpoint: str, service: str) -> None:
        """Begin to send.

        Args:
            endpoint: URL of the collector; '': what OpenTelemetry's variables say.
            service: what this process is called, unless they say otherwise.

        Raises:
            TracingError: the variables say what cannot be.
        """
        vars(otlp_exporter)["random"] = _OWN_RANDOM
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it repeats itself; see `_Told`
        resource = Resource.create({} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: service})
        self._ids = _Ids()
        try:
            provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
            self._exporter = _Told(OTLPSpanExporter(endpoint=endpoint or None))
            self._processor = BatchSpanProcessor(self._exporter)
        except ValueError as error:
            raise TracingError(f"--traces: a variable OTEL_… cannot be used: {error}") from error
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("lotteryfl")

    def span(self, name: str, **attributes: str | int) -> Span:
        """Return one that is part of what is under way here; nothing is: none."""
        if not trace.get_current_span().get_span_context().is_valid:
            return NO_SPAN
        return _OtlpSpan(self._tracer.start_span(name, attributes=_named({**fields(), **attributes})))

    def begin(self, name: str, parent: Span, ids: str, **attributes: str | int) -> Span:
        """Begin one below another, or a trace."""
        above = Context() if parent.parent is None else _below(parent.parent)
        with self._ids.made_of(ids):
            return _OtlpSpan(self._tracer.start_span(name, above, attributes=_named(attributes)))

    def join(self, parent: Parent | None) -> None:
        """Be part of another process's span from now on."""
        if parent is not None:
            attach(_below(parent))

    @contextmanager
    def within(self, parent: Parent | None) -> Iterator[None]:
        """Be part of a span while the block runs."""
        token = attach(Context() if parent is None else _below(parent))
        try:
            yield
        finally:
            detach(token)

    def here(self) -> Parent | None:
        """Return the span under way."""
        return _parent(trace.get_current_span())

    def close(self) -> None:
        """Send what is left, and wait a little."""
        closing = threading.Thread(target=self._processor.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if closing.is_alive():
            self._exporter.give_up()


class _OtlpSpan(Span):
    """A span of the SDK's."""

    def __init__(self, found: trace.Span) -> None:
        self._span = found
        self.parent = _parent(found)
        self._token: Token[Context] | None = None

    def __enter__(self) -> Self:
        self._token = attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            detach(self._token)
        self.end(kind.__name__ if kind else "")

    def end(self, trouble: str = "") -> None:
        """End it."""
        if trouble:
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, trouble))
        self._span.end()


class _Ids(IdGenerator):
    """Ids by chance, or made of what a span is of."""

    def __init__(self) -> None:
        self._here = threading.local()

    @contextmanager
    def made_of(self, ids: str) -> Iterator[None]:
        """Make this thread's ids of a text while the block runs; '': by chance."""
        self._here.digest = hashlib.sha256(ids.encode()).digest() if ids else b""
        yield
        self._here.digest = b""

    def generate_trace_id(self) -> int:
        """Return the id of a trace."""
        return self._next(slice(8, 24), 128)

    def generate_span_id(self) -> int:
        """Return the id of a span."""
        return self._next(slice(0, 8), 64)

    def _next(self, part: slice, bits: int) -> int:
        digest: bytes = getattr(self._here, "digest", b"")
        return int.from_bytes(digest[part]) if digest else _OWN_RANDOM.randrange(1, 1 << bits)


class _Told(SpanExporter):
    """An exporter whose trouble is told once: a collector that is down takes a line of the log, and no more."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._is_told = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, or drop them."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._tell()
        return result

    def shutdown(self) -> None:
        """Send no more."""
        self._exporter.shutdown()

    def give_up(self) -> None:
        """Wait for the collector no longer."""
        self._tell()
        self._exporter.shutdown()

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            _log.warning("traces: the collector does not take them: spans are dropped while that is so")


def _named(attributes: dict[str, str | int]) -> dict[str, str | int]:
    return {f"lotteryfl.{name}": value for name, value in attributes.items()}


def _parent(found: trace.Span) -> Parent | None:
    context = found.get_span_context()
    return Parent(context.trace_id, context.span_id, context.trace_flags.sampled) if context.is_valid else None


def _below(parent: Parent) -> Context:
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if parent.is_sampled else trace.TraceFlags.DEFAULT)
    above = trace.SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(above), Context())
