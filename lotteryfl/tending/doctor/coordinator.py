"""Whether a coordinator can be reached and called: its name, its port, its certificate, its version, its clock."""

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.metadata import version

from cryptography import x509

from lotteryfl.common.security.address import check_address
from lotteryfl.common.security.channel import (
    CALL_SECONDS,
    PROTOCOL_VERSION,
    TOLD_PROTOCOL,
    TOLD_TIME,
    TOLD_VERSION,
    asked,
    open_channel,
)
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.describe import state_of
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from lotteryfl.tending.doctor.check import Check, looked
from lotteryfl.tending.doctor.machine import PACKAGE
from lotteryfl.tending.doctor.secrets import valid

_SECONDS = 5.0
_CLOCKS_DIFFER = 5.0
"""Seconds beyond which times of two machines' logs do not go together, and young certificates are not valid yet."""


def checks_of_coordinator(address: str, security: ChannelSecurity) -> Iterator[Check]:
    """Look at a coordinator from here; what cannot be done any more is left out.

    Args:
        address: HOST:PORT.
        security: how it is called.
    """
    stages = (
        ("address", lambda: _address(address), "expected HOST:PORT"),
        ("name", lambda: _resolved(address), "check the host's name, or this machine's DNS"),
        ("port", lambda: _reached(address), "is it listening there (`lotteryfl serve --listen`), and let through?"),
        ("tls", lambda: _secured(address, security), ""),
        ("call", lambda: _called(address, security), "docs/security.md says who may call"),
    )
    for subject, look, advice in stages:
        for check in looked(subject, look, advice):
            yield check
            if check.verdict == "fail":
                return


def clocks(theirs: float, sent: float, came: float) -> Check:
    """Compare a coordinator's time with this machine's.

    Args:
        theirs: seconds since 1970, by the coordinator.
        sent: when it was asked, by this machine.
        came: when its answer was here.
    """
    off = theirs - (sent + came) / 2
    unsure = (came - sent) / 2
    found = f"the coordinator's is {off:+.1f} s from this machine's, ± {unsure:.1f} s"
    if abs(off) > _CLOCKS_DIFFER + unsure:
        return Check("warn", "clock", found, "let both machines have NTP")
    return Check("ok", "clock", found)


def versions(told: Mapping[str, str]) -> Iterator[Check]:
    """Compare a coordinator's protocol and version with this one's, by what it told with its answer."""
    protocol, theirs, ours = told.get(TOLD_PROTOCOL, ""), told.get(TOLD_VERSION, ""), version(PACKAGE)
    if not protocol:
        yield Check("warn", "protocol", "the coordinator does not tell: it is of an earlier version than this", "")
    elif protocol != str(PROTOCOL_VERSION):
        found = f"the coordinator speaks {protocol} (lotteryfl {theirs}), this {PROTOCOL_VERSION} (lotteryfl {ours})"
        yield Check("fail", "protocol", found, "install the same version of lotteryfl on both")
    elif theirs != ours:
        found = f"{protocol} on both; lotteryfl {theirs} there, {ours} here"
        yield Check("warn", "protocol", found, "they go together; for equal bits let all be of one version")
    else:
        yield Check("ok", "protocol", f"{protocol}, lotteryfl {ours} on both")


def _address(address: str) -> Iterator[Check]:
    check_address(address)
    yield from ()


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _resolved(address: str) -> Iterator[Check]:
    host, port = _host_and_port(address)
    found = sorted({str(place[4][0]) for place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    yield Check("ok", "name", f"{host} is {', '.join(found)}")


def _reached(address: str) -> Iterator[Check]:
    started = time.monotonic()
    with socket.create_connection(_host_and_port(address), _SECONDS):
        yield Check("ok", "port", f"{address} answers in {1000 * (time.monotonic() - started):.0f} ms")


def _secured(address: str, security: ChannelSecurity) -> Iterator[Check]:
    if warning := security.check(address):
        yield Check("warn", "tls", warning.removeprefix("warning: "), "give --tls-ca, and a certificate or a token")
    if not security.tls:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # looked at here, believed by gRPC alone
    context.set_alpn_protocols(["h2"])
    host, port = _host_and_port(address)
    with (
        socket.create_connection((host, port), _SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=host) as channel,
    ):
        shown = channel.getpeercert(binary_form=True)
    if shown:
        yield valid("coordinator's certificate", x509.load_der_x509_certificate(shown), address)


def _called(address: str, security: ChannelSecurity) -> Iterator[Check]:
    with open_channel(address, security) as channel:
        sent = time.time()
        call = partial(pb_grpc.CoordinatorStub(channel).GetRun.with_call, pb.GetRunRequest(), timeout=CALL_SECONDS)
        status, done = asked(call, address, security)
        came = time.time()
    yield Check(
        "ok", "call", f"{status.strategy}, {state_of(status)}, {status.round} of {status.rounds} rounds committed"
    )
    told = {key: value for key, value in done.trailing_metadata() or () if isinstance(value, str)}
    yield from versions(told)
    if TOLD_TIME in told:
        yield from looked("clock", partial(_clock, told[TOLD_TIME], sent, came))


def _clock(theirs: str, sent: float, came: float) -> Iterator[Check]:
    yield clocks(float(theirs), sent, came)
