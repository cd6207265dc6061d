"""How a channel is secured: the TLS files and the token that a user names, and where plaintext is enough.

Imports neither torch nor `cryptography`: `lotteryfl status HOST:PORT`, the containers' health check, needs it all.
"""

import re
import ssl
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from lotteryfl.common.commandline import given
from lotteryfl.common.disk.fileversion import FileVersion, file_version
from lotteryfl.common.errors import LotteryFLError

TOKEN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._@-]{0,63})\.[A-Za-z0-9_-]{43}")
"""Whom it is for, and 32 random bytes in base64."""

HELP = "docs/security.md says how"


class SecurityError(LotteryFLError):
    """What was named to secure a channel cannot be used, or is not enough."""


@dataclass(frozen=True)
class TLSFiles:
    """PEM files of one side."""

    cert: Path | None = None
    """Its own certificate, followed by those between it and its authority."""
    key: Path | None = None
    """The private key of that certificate."""
    ca: Path | None = None
    """The authority, or authorities, that sign the other side's certificates."""

    def __bool__(self) -> bool:
        """Tell whether TLS is wanted."""
        return any((self.cert, self.key, self.ca))

    def options(self) -> list[str]:
        """Return the options that name them."""
        return given(tls_cert=self.cert, tls_key=self.key, tls_ca=self.ca)

    def version(self) -> tuple[FileVersion | None, ...]:
        """Return what other files of these names change."""
        return tuple(file_version(path) for path in (self.cert, self.key, self.ca) if path)

    def pair(self) -> tuple[bytes, bytes] | None:
        """Return key and certificate, as gRPC takes them; None where there are none.

        Raises:
            SecurityError: one is missing, cannot be read, or does not belong to the other.
        """
        if self.cert is None and self.key is None:
            return None
        if self.cert is None or self.key is None:
            raise SecurityError("--tls-cert and --tls-key: a certificate and its key are needed together")
        pair = _read(self.key), _read(self.cert)
        try:
            # Without a password OpenSSL would ask the terminal for that of an encrypted key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise SecurityError(f"{self.key}: is not the key of {self.cert}") from error
            raise SecurityError(
                f"{self.cert} and {self.key}: expected a certificate and its unencrypted key, in PEM"
            ) from error
        return pair

    def authorities(self) -> bytes | None:
        """Return the authorities' certificates; None where there are none.

        Raises:
            SecurityError: they cannot be read, or have all expired.
        """
        if self.ca is None:
            return None
        pem = _read(self.ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(self.ca)
        except ssl.SSLError as error:
            raise SecurityError(f"{self.ca}: expected certificates of an authority, in PEM") from error
        ends = [str(certificate["notAfter"]) for certificate in context.get_ca_certs()]
        if not ends:
            raise SecurityError(f"{self.ca}: its certificate is not one of an authority")
        if max(map(ssl.cert_time_to_seconds, ends)) < time.time():
            raise SecurityError(f"{self.ca}: has expired on {max(ends, key=ssl.cert_time_to_seconds)}")
        return pem


@dataclass(frozen=True)
class ChannelSecurity:
    """How a worker, an observer or an operator calls a coordinator."""

    tls: TLSFiles = TLSFiles()
    token: str = field(default="", repr=False)
    insecure: bool = False
    """Whether plaintext is wanted beyond this machine."""

    def check(self, address: str) -> str:
        """Check what can be checked before calling; return a warning, if one is due.

        Raises:
            SecurityError: an option that is needed is missing.
        """
        if self.tls and self.tls.ca is None:
            raise SecurityError(f"--tls-ca: the authority of the coordinator's certificate is missing; {HELP}")
        if self.token and not self.tls:
            raise SecurityError(
                f"a token is sent over TLS alone: name the coordinator's authority with --tls-ca; {HELP}"
            )
        if self.tls or is_loopback(address):
            return ""
        if not self.insecure:
            raise SecurityError(
                f"{address}: is on another machine, and nothing would be encrypted: give --tls-ca with --tls-cert and "
                f"--tls-key or with a token ({HELP}), or allow it with --insecure"
            )
        return f"warning: calls to {address} are neither encrypted nor is it sure who answers them"


def is_loopback(address: str) -> bool:
    """Tell whether an address can be reached from this machine alone; in doubt not."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_token(text: str, source: str) -> str:
    """Return the token that a text consists of.

    Raises:
        SecurityError: it is none; the text, which may be a secret all the same, is not quoted.
    """
    token = text.strip()
    if not TOKEN.fullmatch(token):
        raise SecurityError(f"{source}: holds no token; expected NAME.SECRET as `lotteryfl token NAME` prints it")
    return token


def token_name(token: str) -> str:
    """Return whom a token is for, by its own word."""
    return token.rpartition(".")[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SecurityError(f"{path}: cannot be read: {error.strerror}") from error
