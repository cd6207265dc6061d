"""Addresses as people write them: HOST:PORT, or named for what is wrong with them before anything is called."""

import socket
from ipaddress import IPv6Address, ip_address

from lotteryfl.common.errors import LotteryFLError

_MAX_PORT = 65535
_FILES = ("unix:", "unix-abstract:")


class AddressError(LotteryFLError):
    """An address is none: the message says what is wrong with it."""


def check_address(address: str, *, listens: bool = False) -> None:
    """Check that an address is HOST:PORT or [IPV6]:PORT, or gRPC's unix:PATH or unix-abstract:NAME.

    Args:
        address: as it was given.
        listens: it is to be listened at, where port 0 means any that is free.

    Raises:
        AddressError: naming what is wrong.
    """
    if address.startswith(_FILES):
        return
    scheme, is_url, rest = address.partition("://")
    if is_url:
        raise AddressError(
            f"{address}: expected HOST:PORT, as {rest.strip('/').partition('/')[0]}, without {scheme}://"
        )
    if _is_ipv6(address):
        raise AddressError(f"{address}: expected an IPv6 address in brackets and a port, as [::1]:7000")
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        raise AddressError(f"{address}: has no port: expected HOST:PORT")
    if not host:
        here = "0.0.0.0, or 127.0.0.1 for this machine alone" if listens else "localhost for this machine"
        raise AddressError(f"{address}: has no host: expected HOST:PORT ({here})")
    _check_host(host, address)
    _check_port(port, address, lowest=0 if listens else 1)


def check_free(address: str, option: str = "") -> None:
    """Check that an address can be listened at now, before anything is made for who is to listen there.

    Args:
        address: as `check_address` lets it pass, to be listened at.
        option: whose it is, if it needs to be said.

    Raises:
        AddressError: it cannot.
    """
    host, _, port = address.rpartition(":")
    if address.startswith(_FILES) or not int(port):
        return
    failure: OSError | None = None
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        found, failure = [], error
    for family, _, _, _, where in found:  # one of them will do: localhost has two where a machine may have one
        try:
            socket.create_server((str(where[0]), int(where[1])), family=family).close()
        except OSError as error:
            failure = error
        else:
            return
    raise cannot_listen(address, option) from failure


def cannot_listen(address: str, option: str = "") -> AddressError:
    """Return what is said of an address that cannot be listened at."""
    named = f"{option} {address}" if option else address
    return AddressError(f"{named}: cannot listen there: the address is in use or not this host's")


def _check_host(host: str, address: str) -> None:
    if host.startswith("[") and host.endswith("]") and _is_ipv6(host[1:-1]):
        return
    if any(character in "[]/:@?#" or character.isspace() or not character.isprintable() for character in host):
        raise AddressError(f"{address}: {host!r} is no host: expected HOST:PORT or [IPV6]:PORT")


def _check_port(port: str, address: str, lowest: int) -> None:
    is_number = port.isascii() and port.isdecimal() and len(port) <= len(str(_MAX_PORT))
    if not (is_number and lowest <= int(port) <= _MAX_PORT):
        raise AddressError(f"{address}: port {port!r}: expected a number from {lowest} to {_MAX_PORT}")


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ip_address(text), IPv6Address)
    except ValueError:
        return False
