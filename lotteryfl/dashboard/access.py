"""Who may look at the page: who is on this machine, or has shown who it is over TLS."""

import hashlib
import hmac
import secrets
import time
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lotteryfl.common.commandline import given
from lotteryfl.common.security.address import check_address
from lotteryfl.common.security.identity import Identity, IdentityError, Role
from lotteryfl.common.security.tls import HELP, SecurityError, TLSFiles, is_loopback
from lotteryfl.server.security.tokens import TokenFile

if TYPE_CHECKING:
    from lotteryfl.server.security.revoked import RevokedCertificates

COOKIE = "__Host-lotteryfl"
"""Browsers take a cookie of such a name over TLS alone, and send it to the very host that has set it."""

SESSION_SECONDS = 24 * 3600
"""For which who came by the link may look."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


_UNKNOWN = (
    "who looks has to show who it is: by the link that the command has printed, an observer's token or certificate"
)


@dataclass(frozen=True)
class PageEndpoint:
    """An address to show the page at, and how that is secured."""

    address: str
    """HOST:PORT; with port 0 a free one is taken."""
    tls: TLSFiles = field(default_factory=TLSFiles)
    """Certificate and key; a browser with an observer's or operator's certificate of the authority may look."""
    tokens: Path | None = None
    """The file of tokens; who has an observer's or operator's may look."""
    revoked: Path | None = None
    """The file of certificates of the authority that do not count any more."""

    @classmethod
    def of(cls, address: str, tls: TLSFiles, tokens: Path | None = None, revoked: Path | None = None) -> "PageEndpoint":
        """Return an endpoint; what can be reached from this machine alone needs none of the rest.

        The environment may name TLS files all the same: they are for calls to a coordinator.
        """
        return cls(address) if is_loopback(address) else cls(address, tls, tokens, revoked)

    @property
    def host(self) -> str:
        """Where it listens, without the port."""
        return self.address.rpartition(":")[0].removeprefix("[").removesuffix("]")

    @property
    def port(self) -> int:
        """At which port it listens."""
        return int(self.address.rpartition(":")[2])

    @property
    def is_open(self) -> bool:
        """Whether it can be reached from this machine alone: then nobody is asked who they are."""
        return is_loopback(self.address)

    def options(self) -> list[str]:
        """Return the options of `lotteryfl dashboard` that mean this endpoint."""
        return [
            *given(listen=self.address),
            *self.tls.options(),
            *given(tokens=self.tokens, revoked=self.revoked),
        ]

    def check(self) -> None:
        """Check that everything can be used and is enough for the address.

        Raises:
            AddressError: the address is none.
            SecurityError: a file cannot be used, or the address is not this machine's alone and there is no TLS.
        """
        check_address(self.address, listens=True)
        if self.address.startswith("unix"):
            raise SecurityError(f"{self.address}: browsers come to HOST:PORT")
        if self.tls.pair() is None and not self.is_open:
            raise SecurityError(
                f"{self.address}: other machines can reach it, and the page would not be encrypted: give --tls-cert "
                f"and --tls-key ({HELP}), or a loopback address, as 127.0.0.1:{self.port}"
            )
        self.tls.authorities()
        self.revocations()
        if self.tokens is not None:
            TokenFile(self.tokens)

    def revocations(self) -> "RevokedCertificates | None":
        """Return the certificates that do not count any more; None: all of the authority's do.

        Raises:
            SecurityError: the list cannot be read, or there is no authority.
        """
        if self.revoked is None:
            return None
        if self.tls.ca is None:
            raise SecurityError("--revoked: is of use only together with --tls-ca, by which browsers show certificates")
        from lotteryfl.server.security.revoked import RevokedCertificates  # cryptography, for who has a list

        return RevokedCertificates(self.revoked, self.tls.ca)


class Peer(NamedTuple):
    """Who is at the other end of a connection."""

    identity: Identity
    certificate: bytes
    """That shows it, in PEM."""


class Access:
    """Decides for each request whether it may look."""

    def __init__(self, endpoint: PageEndpoint) -> None:
        """Read what it goes by.

        Raises:
            SecurityError: it cannot be used.
        """
        self.is_open = endpoint.is_open
        self.hosts = _LOOPBACK | {endpoint.host.lower()} if self.is_open else None
        """The hosts that a request may be meant for; None: any. A page of somebody else's whose name leads here, as
        DNS rebinding does it, says its own."""
        self._tokens = TokenFile(endpoint.tokens) if endpoint.tokens else None
        self._revoked = endpoint.revocations()
        self._link = None if self.is_open else secrets.token_urlsafe(32)
        pair = endpoint.tls.pair()
        # Of the private key, which no page shows: who came by the link may look on when the process is started again.
        self._key = hashlib.sha256(b"lotteryfl page\0" + pair[0]).digest() if pair else secrets.token_bytes(32)

    @property
    def takes_tokens(self) -> bool:
        """Whether a token is a way in."""
        return self._tokens is not None

    def link(self) -> str:
        """Return the path of the first page for who has started this; it leads in once."""
        return f"/enter?link={self._link}" if self._link else "/"

    def is_meant(self, host: str) -> bool:
        """Tell whether a request's Host header names this server."""
        if self.hosts is None:
            return True
        name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
        return name.lower() in self.hosts

    def enter(self, link: str) -> str | None:
        """Return a cookie's value for who comes by the link, once; None: it was used, or is another one."""
        if self._link is None or not hmac.compare_digest(link.encode(), self._link.encode()):
            return None
        self._link = None
        text = f"{int(time.time()) + SESSION_SECONDS}.{secrets.token_urlsafe(16)}"
        return f"{text}.{self._signed(text)}"

    def may_look(self, headers: Mapping[str, str], peer: Peer | None) -> str:
        """Return '' where a request may look, and else why not.

        Args:
            headers: of the request, by small letters.
            peer: whom the connection shows by a certificate; None: nobody.
        """
        if self.is_open or self._knows_cookie(headers.get("cookie", "")):
            return ""
        token = _token(headers.get("authorization", ""))
        try:
            if peer is not None:
                identity = self._by_certificate(peer)
            elif token and self._tokens is not None:
                identity = self._tokens.identify(token)
            else:
                return _UNKNOWN
        except IdentityError as error:
            return str(error)
        if identity.role is Role.WORKER:  # who does some clients' work need not see all clients
            return f"{identity.name} is {identity.role.with_article}: expected an observer or an operator"
        return ""

    def _by_certificate(self, peer: Peer) -> Identity:
        if self._revoked is not None:
            self._revoked.check(peer.certificate)
        return peer.identity

    def _knows_cookie(self, header: str) -> bool:
        try:
            cookie = SimpleCookie(header).get(COOKIE)
        except CookieError:
            return False
        text, _, signature = cookie.value.rpartition(".") if cookie else ("", "", "")
        if not hmac.compare_digest(signature.encode(), self._signed(text).encode()):
            return False
        return int(text.partition(".")[0]) > time.time()

    def _signed(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def _token(header: str) -> str:
    """Return the token of a request: by itself, or as the password that a browser asks for."""
    kind, _, rest = header.partition(" ")
    if kind.lower() == "bearer":
        return rest.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return b64decode(rest, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
