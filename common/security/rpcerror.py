"""A failed call to the coordinator as a sentence for the user."""

import grpc

from lotteryfl.common.text import printable


def explain(error: grpc.RpcError, address: str) -> str:
    """Return which coordinator it was, and what is wrong with it or with what was asked of it."""
    details = printable(error.details() or "") or error.code().name
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return f"coordinator {address}: cannot be reached: {details}"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"coordinator {address}: does not answer: {details}"
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return f"coordinator {address}: does not know this call: it is of an older lotteryfl, or is no coordinator"
    return f"coordinator {address}: {details}"
