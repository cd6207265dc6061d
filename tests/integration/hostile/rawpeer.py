"""A peer that sends bytes of its own making: gRPC without the contract's code, and the port without gRPC."""

from collections.abc import Iterable, Iterator, Sequence

import grpc
from google.protobuf.message import Message

from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from tests.support.handworker import INCARNATION, HandWorker
from tests.support.waiting import DEADLINE

SERVICE = pb.DESCRIPTOR.services_by_name["Coordinator"].full_name
Code = grpc.StatusCode


class RawPeer:
    """Calls a coordinator under a name."""

    def __init__(self, address: str, task: str, security: ChannelSecurity, name: str) -> None:
        self.task = task
        self.name = name
        self.id = f"{name}:{INCARNATION}"
        self.channel = _open(address, security)
        self.stub = pb_grpc.CoordinatorStub(self.channel)

    def stream(
        self, method: str, messages: Iterable[bytes], metadata: Sequence[tuple[str, str]] = ()
    ) -> Iterator[bytes]:
        """Begin a call of any method: on the wire one message is a stream of one."""
        path = method if "/" in method else f"/{SERVICE}/{method}"
        call: grpc.StreamStreamMultiCallable[bytes, bytes] = self.channel.stream_stream(path)
        return call(iter(messages), timeout=DEADLINE, metadata=tuple(metadata))

    def call(
        self, method: str, *messages: bytes | Message, metadata: Sequence[tuple[str, str]] = ()
    ) -> list[bytes] | tuple[Code, str]:
        """Return the answer's messages, or the code and the words of a refusal."""
        sent = [message if isinstance(message, bytes) else message.SerializeToString() for message in messages]
        try:
            return list(self.stream(method, sent, metadata))
        except grpc.RpcError as error:
            return error.code(), error.details() or ""

    def ask(self, method: str, message: Message) -> bytes:
        """Return the one message of an answer."""
        (answer,) = self.stream(method, [message.SerializeToString()])
        return answer

    def submit(self, messages: Iterable[bytes]) -> pb.SubmitReply:
        (reply,) = self.stream("SubmitResult", messages)
        return pb.SubmitReply.FromString(reply)

    def worker(self) -> HandWorker:
        """Register, and know how to do what a worker does."""
        return HandWorker(self, self.name)

    def close(self) -> None:
        self.channel.close()


def _open(address: str, security: ChannelSecurity) -> grpc.Channel:
    """Open a channel that sends what a worker's own would not."""
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if not security.tls:
        return grpc.insecure_channel(address, options)
    key, certificate = security.tls.pair() or (None, None)
    credentials = grpc.ssl_channel_credentials(security.tls.authorities(), key, certificate)
    if security.token:
        credentials = grpc.composite_channel_credentials(
            credentials, grpc.access_token_call_credentials(security.token)
        )
    return grpc.secure_channel(address, credentials, options)
