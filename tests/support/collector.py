"""An OTLP collector: takes spans over gRPC as any of them does, and keeps them to be looked at."""

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


class Seen(NamedTuple):
    """A span as it came."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    about: dict[str, str | int]
    """Its attributes, without what they all begin with."""
    trouble: str

    @property
    def client(self) -> str | int:
        return self.about["client"]


class Collector(TraceServiceServicer):
    """Listens while the block runs."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.bytes = b""
        """All that came."""
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_TraceServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def Export(  # noqa: N802 - the method's name is the contract's
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        self.bytes += request.SerializeToString()
        for resource in request.resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.spans += [
                Seen(
                    names["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    {
                        each.key.removeprefix("lotteryfl."): each.value.string_value or each.value.int_value
                        for each in span.attributes
                    },
                    span.status.message,
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return ExportTraceServiceResponse()

    def named(self, name: str) -> list[Seen]:
        """Return the spans of a name that have come."""
        return [span for span in self.spans if span.name == name]

    def by_id(self) -> dict[str, Seen]:
        return {span.id: span for span in self.spans}

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()
