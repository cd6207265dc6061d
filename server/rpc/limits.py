"""The most that callers take of a coordinator. Honest workers are far below; who is not is told which limit it met."""

from dataclasses import dataclass

from google.protobuf.message import Message

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.channel import CALL_SECONDS, STREAM_IDLE_SECONDS
from lotteryfl.common.wire.framing import HEADER_BYTES
from lotteryfl.server.rpc.openfiles import open_files


class LimitError(LotteryFLError):
    """A caller wants more than its share; the message names the limit."""


@dataclass(frozen=True)
class Limits:
    """What is taken from whom, at once or in time.

    A caller is the name in a certificate or token; where nobody is asked who calls, an address without its port. Many
    workers may share either, and each has up to three calls under way: its poll or download, an upload, a heartbeat.
    The defaults let a thousand share one, who all come at once.
    """

    connections: int = 4096
    """Connections at once, of all callers; but no more than half of the files that the process may open."""
    calls: int = 8192
    """Calls at once, of all callers."""
    calls_per_connection: int = 3072
    """Calls at once over one connection; more wait on the caller's side."""
    calls_per_caller: int = 3072
    """Calls at once by one caller."""
    watches_per_caller: int = 32
    """Calls of one caller that wait for news, which count among its calls too: each costs something at every change."""
    registrations_per_minute: int = 1200
    """Registrations by one caller, at once or one after the other."""
    uploads_per_worker: int = 3
    """Uploads at once, each of at most a payload's bytes; a second one is honest while a dead first is not noticed."""
    cut_uploads: int = 64
    """Uploads that were cut and are kept, each an open file and at most a payload's bytes: the oldest go first."""
    header_bytes: int = HEADER_BYTES
    """The longest message that is not a chunk; a longer one is not parsed."""
    text: int = 1024
    """Characters of the longest text in a message."""
    request_seconds: float = CALL_SECONDS
    """Seconds until a call has brought its first message."""
    idle_seconds: float = STREAM_IDLE_SECONDS
    """Seconds for each further chunk, or as many bytes in smaller ones; and for the caller to read a message."""
    handshake_seconds: float = 20.0
    """Seconds until a connection has been made secure."""
    unused_seconds: float = 600.0
    """Seconds for which a connection without a call is kept."""

    def options(self) -> list[tuple[str, int]]:
        """Return those that gRPC keeps by itself, as options of a server."""
        return [
            ("grpc.max_allowed_incoming_connections", min(self.connections, open_files() // 2)),
            ("grpc.max_concurrent_streams", self.calls_per_connection),
            ("grpc.server_handshake_timeout_ms", round(1000 * self.handshake_seconds)),
            ("grpc.max_connection_idle_ms", round(1000 * self.unused_seconds)),
        ]


def check_texts(message: Message, most: int) -> None:
    """Check the lengths of a message's texts, and of those within it; of a map, which goes by texts, its keys.

    Raises:
        ValueError: one has more characters than that.
    """
    for descriptor, value in message.ListFields():
        values = value if descriptor.is_repeated else (value,)
        is_map = descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry
        if descriptor.type == descriptor.TYPE_MESSAGE and not is_map:
            for inner in values:
                check_texts(inner, most)
        elif (is_map or descriptor.type == descriptor.TYPE_STRING) and (longest := max(map(len, values))) > most:
            name = f"{message.DESCRIPTOR.name}.{descriptor.name}"
            raise ValueError(f"{name} has {longest} characters: at most {most} are taken")
