"""Why a coordinator and its caller cannot come together over TLS: gRPC itself may say "Socket closed" and no more."""

import socket
import ssl
import time

from lotteryfl.common.security.tls import TLSFiles

_SECONDS = 2.0
_PAUSE_SECONDS = 0.5


def refusal(address: str, tls: TLSFiles) -> str:
    """Shake hands with a coordinator that cannot be called.

    Args:
        address: HOST:PORT; about any other nothing is known.
        tls: the caller's files; without any it speaks plaintext.

    Returns:
        Why it will never work; empty where TLS is not what is wrong.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in host or not port.isdecimal():
        return ""
    reason = _try(host, int(port), tls)
    if reason.startswith("hung up"):  # as one does that has just been stopped, and will not be there again
        time.sleep(_PAUSE_SECONDS)
        reason = _try(host, int(port), tls)
    return reason


def _try(host: str, port: int, tls: TLSFiles) -> str:
    try:
        with socket.create_connection((host, port), _SECONDS) as connection:
            context = _context(tls)
            with context.wrap_socket(connection, server_hostname=host) as channel:
                # The coordinator speaks first, unless it did not like our certificate.
                has_spoken = bool(channel.recv(1))
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is refused: {error.verify_message} (checked against {tls.ca})"
    except ssl.SSLError as error:
        is_plaintext = error.reason == "WRONG_VERSION_NUMBER"
        return "speaks plaintext, not TLS: leave --tls-ca, --tls-cert and --tls-key out" if is_plaintext and tls else ""
    except OSError:
        return ""
    if not tls:
        return "speaks TLS: name its authority with --tls-ca, and who you are with --tls-cert and --tls-key or a token"
    if has_spoken:
        return ""
    if tls.cert is None:
        return "hung up: it wants to see a certificate: give --tls-cert and --tls-key"
    return f"hung up on {tls.cert}: it must be valid, for clients, and of an authority that the coordinator knows"


def _context(tls: TLSFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if tls.ca is None:  # only to see whether there is TLS: nothing is sent
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(tls.ca)
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key, password="")
    return context
