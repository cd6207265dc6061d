"""What happens to every call before the service sees it."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from common.framing import deserializer, serialize
from protos import lotteryfl_pb2 as pb


class TensorStreams(grpc.aio.ServerInterceptor):
    """Lets streams of tensors pass as `common.framing` makes and reads their messages."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Replace the serializers that were generated for them."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.request_streaming and handler_call_details.method.endswith("/SubmitResult"):
            return handler._replace(request_deserializer=deserializer(pb.ResultPart))
        if handler.response_streaming:
            return handler._replace(response_serializer=serialize)
        return handler
