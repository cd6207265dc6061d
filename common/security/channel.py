"""How a channel to a coordinator is opened, and the options of both sides.

gRPC ignores unknown names of options silently: tests show their effect.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

import grpc

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.address import check_address
from lotteryfl.common.security.handshake import refusal
from lotteryfl.common.security.rpcerror import explain
from lotteryfl.common.security.tls import ChannelSecurity, SecurityError
from lotteryfl.common.telemetry.logs import say

T = TypeVar("T")

PROTOCOL_VERSION = 2
"""Raised with every change of protos/lotteryfl.proto that an older peer would misread."""

STREAM_IDLE_SECONDS = 60.0
"""A stream that has not moved for so long is given up; streams have no other deadline."""

TOLD_PROTOCOL, TOLD_VERSION, TOLD_TIME = "lotteryfl-protocol", "lotteryfl-version", "lotteryfl-time"
"""What a coordinator tells of itself beside its status, in the metadata after it: what it speaks, what it is, when it
is there in seconds since 1970. Nothing depends on it but `lotteryfl doctor`."""

CONNECT_SECONDS = 20.0
"""How long one attempt at a connection may take, handshakes and all: networks are slow, and machines busy."""

CALL_SECONDS = 30.0
"""Deadline of every unary call, but for the goodbye."""

GOODBYE_SECONDS = 5.0
"""Deadline of a worker's goodbye: whoever sent SIGTERM will soon send SIGKILL."""

POLL_SECONDS = 60.0
"""Longest time that FetchAssignment is held open."""

# Room for a chunk of `common.tensors.stream` (1 MiB) and its frame. Not computed from it: that module imports
# torch, which takes seconds, and `lotteryfl status HOST:PORT`, the containers' health check, does without.
_MESSAGE_BYTES = 4 << 20

_BOTH_SIDES: list[tuple[str, int]] = [
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    # A peer that vanished is noticed within 20 + 10 s. Without the ping timeout it takes over a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]

CLIENT_OPTIONS = [
    *_BOTH_SIDES,
    # A web proxy of the environment knows nothing of a cluster's hosts, and less of localhost.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", int(1000 * CONNECT_SECONDS)),  # no pause, whatever its name: bounds an attempt
    ("grpc.max_reconnect_backoff_ms", 5_000),
]

SERVER_OPTIONS = [
    *_BOTH_SIDES,
    # An occupied port is an error, not a second listener that takes every other connection.
    ("grpc.so_reuseport", 0),
    # Below the clients' keepalive time: otherwise "too many pings" ends idle connections.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # What may arrive of an upload before it is asked for: else gRPC guesses, and holds more the slower the disk is.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4 << 20),
]


def open_channel(address: str, security: ChannelSecurity) -> grpc.Channel:
    """Open a channel to a coordinator; nothing is sent yet. Plaintext beyond this machine is warned of.

    Args:
        address: HOST:PORT.
        security: how it is secured.

    Raises:
        AddressError: the address is none.
        SecurityError: a file cannot be used, or plaintext is not allowed there.
    """
    check_address(address)
    warning = security.check(address)
    if warning:
        say(warning, logging.WARNING)
    if not security.tls:
        return grpc.insecure_channel(address, options=CLIENT_OPTIONS)
    key, certificate = security.tls.pair() or (None, None)
    credentials = grpc.ssl_channel_credentials(security.tls.authorities(), key, certificate)
    if security.token:
        bearer = grpc.access_token_call_credentials(security.token)
        credentials = grpc.composite_channel_credentials(credentials, bearer)
    return grpc.secure_channel(address, credentials, options=CLIENT_OPTIONS)


def asked(call: Callable[[], T], address: str, security: ChannelSecurity) -> T:
    """Return a coordinator's answer.

    Args:
        call: a call over the channel to it.
        address: HOST:PORT.
        security: how the channel is secured.

    Raises:
        SecurityError: the two sides will never agree about TLS.
        LotteryFLError: it cannot be reached, or does not answer as it should.
    """
    try:
        return call()
    except grpc.RpcError as error:
        raise_if_refused(error, address, security)
        raise LotteryFLError(explain(error, address)) from error


def raise_if_refused(error: grpc.RpcError, address: str, security: ChannelSecurity) -> None:
    """Find out whether a call has failed because the two sides will never agree about TLS.

    Raises:
        SecurityError: so it is, and why.
    """
    if error.code() is grpc.StatusCode.UNAVAILABLE and (reason := refusal(address, security.tls)):
        raise SecurityError(f"coordinator {address}: {reason}") from error
