"""Who a peer is: a name and a role, as its certificate says it and as both sides read it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.names import WorkerId
from lotteryfl.common.text import printable

MAX_NAME = 256
"""Characters of a name that a worker goes by."""

MAX_ID = MAX_NAME + 33
"""Characters of a worker's id, NAME:INCARNATION."""

_URI = "urn:lotteryfl:"
_ISSUED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_INCARNATION = re.compile(r"[0-9a-f]{32}")


class IdentityError(LotteryFLError):
    """A name, or the certificate or token it comes from, cannot be used."""


class Role(StrEnum):
    """What a peer may do."""

    WORKER = "worker"
    """Does clients' work, and may look at the run."""
    OBSERVER = "observer"
    """May look at the run."""
    OPERATOR = "operator"
    """May look at the run, and steer it."""

    @property
    def with_article(self) -> str:
        """The role as it is said of somebody."""
        return f"a {self}" if self is Role.WORKER else f"an {self}"


@dataclass(frozen=True)
class Identity:
    """A peer that has shown who it is."""

    name: str
    role: Role

    @property
    def uri(self) -> str:
        """The subject alternative name that says so in a certificate."""
        return f"{_URI}{self.role}:{self.name}"

    def owns(self, name: str) -> bool:
        """Tell whether it may go by the name: its own, or NAME/SUFFIX for one of several processes."""
        return owner_of(name) == self.name

    @classmethod
    def of_certificate(cls, uris: Sequence[str], common_names: Sequence[str]) -> Self:
        """Read a certificate's subject alternative URIs and common names.

        One that has none of our URIs, of a certification authority of the user's own, is the worker of its common name.

        Raises:
            IdentityError: it says none, or more than one, or what cannot be a name.
        """
        ours = [uri for uri in uris if uri.startswith(_URI)]
        if len(ours) == 1:
            role, _, name = ours[0].removeprefix(_URI).partition(":")
        elif not ours and len(common_names) == 1:
            role, name = Role.WORKER, common_names[0]
        else:
            raise IdentityError("the certificate must say one name, in a URI urn:lotteryfl:ROLE:NAME or as common name")
        if role not in set(Role):
            raise IdentityError(f"the certificate's role {printable(role)!r}: expected one of {', '.join(Role)}")
        check_name(name)
        if "/" in name:
            raise IdentityError(f"the certificate's name {name!r}: must be without /")
        return cls(name, Role(role))


def owner_of(name: str) -> str:
    """Return the name in the certificate or token of whoever may go by a name: what comes before the first /."""
    return name.partition("/")[0]


def check_name(name: str) -> None:
    """Check a name that a worker goes by.

    Raises:
        IdentityError: it is empty, too long or not printable, or has a colon, which ends the name in a worker's id.
    """
    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or ":" in name:
        shown = printable(name[:64])
        raise IdentityError(f"name {shown!r}: expected 1 to {MAX_NAME} printable characters without a colon")


def check_issued_name(name: str) -> None:
    """Check a name to make a certificate or a token for; it becomes a file's name too.

    Raises:
        IdentityError: it is not such a name.
    """
    if not _ISSUED.fullmatch(name):
        raise IdentityError(
            f"name {printable(name[:80])!r}: expected 1 to 64 letters, digits, '.', '_', '@' and '-', "
            "a letter or digit first"
        )


def check_incarnation(incarnation: str) -> None:
    """Check what tells one start of a worker from another.

    Raises:
        IdentityError: it is not 32 hexadecimal digits.
    """
    if not _INCARNATION.fullmatch(incarnation):
        raise IdentityError(f"incarnation {printable(incarnation[:40])!r}: expected 32 hexadecimal digits")


def name_of(worker_id: WorkerId) -> str:
    """Return the name part of `name:incarnation`."""
    return worker_id.rpartition(":")[0]


def owner(worker_id: WorkerId) -> str:
    """Return who answers for a worker: the one name of all processes that share a certificate or token."""
    return owner_of(name_of(worker_id))
