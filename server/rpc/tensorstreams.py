"""How messages that carry tensors are read and written, past what is generated for them."""

from typing import Any

import grpc

from lotteryfl.common.wire.framing import HEADER_BYTES, deserializer, serialize
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rpc.context import Continuation


class TensorStreams(grpc.aio.ServerInterceptor):
    """Lets streams of tensors pass as `common.wire.framing` makes and reads their messages."""

    def __init__(self, header_bytes: int = HEADER_BYTES) -> None:
        """Set the most bytes of a message that is not a chunk."""
        self._header_bytes = header_bytes

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Replace the serializers that were generated for them."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.request_streaming and handler_call_details.method.endswith("/SubmitResult"):
            return handler._replace(request_deserializer=deserializer(pb.ResultPart, self._header_bytes))
        if handler.response_streaming:
            return handler._replace(response_serializer=serialize)
        return handler
