"""Tokens by which workers, observers and operators show who they are: a file with their names, roles and SHA-256.

A token is NAME.SECRET. The secret is 32 random bytes: nobody guesses it, so that a fast hash is as good as a slow one.
"""

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lotteryfl.common.disk.atomicfile import AtomicFile
from lotteryfl.common.disk.fileversion import FileVersion, file_version
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.identity import Identity, IdentityError, Role, check_issued_name
from lotteryfl.common.security.tls import SecurityError, token_name

_log = logging.getLogger("lotteryfl.coordinator")
_NOBODY = "0" * 64


class _Token(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


_Tokens = TypeAdapter(dict[str, _Token])


class TokenFile:
    """The tokens of a file that may be changed at any time."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            SecurityError: it is not there, or no file of tokens.
        """
        self._path = path
        self._version = file_version(path)
        self._tokens = _load(path)
        self._is_readable = True

    @property
    def version(self) -> FileVersion | None:
        """What other tokens change; None while they cannot be read."""
        self._reload_if_changed()
        return self._version if self._is_readable else None

    def identify(self, token: str) -> Identity:
        """Return whom the token shows.

        Raises:
            IdentityError: it is not in the file, or not any more.
        """
        self._reload_if_changed()
        name = token_name(token)
        known = self._tokens.get(name)
        expected = known.sha256 if known else _NOBODY
        if not hmac.compare_digest(_sha256(token), expected) or known is None:
            raise IdentityError("the token is unknown, or was revoked")
        return Identity(name, known.role)

    def _reload_if_changed(self) -> None:
        """Read the file again where it is another one; while it cannot be read, no token counts."""
        version = file_version(self._path)
        if version == self._version:
            return
        self._version, self._tokens, self._is_readable = version, {}, False
        try:
            self._tokens, self._is_readable = _load(self._path), True
        except SecurityError as error:
            _log.warning("%s; until then all tokens are refused", error)


def add_token(path: Path, name: str, role: Role) -> str:
    """Make a token, and return it: the file only gets its SHA-256. The file is made where it is missing.

    Raises:
        LotteryFLError: the name cannot be used, or has a token already, or the file cannot be read or written.
    """
    check_issued_name(name)
    with _changing(path) as tokens:
        if name in tokens:
            raise SecurityError(f"{path}: {name} has a token already: --revoke it first")
        token = f"{name}.{secrets.token_urlsafe(32)}"
        tokens[name] = _Token(role=role, sha256=_sha256(token))
    return token


def revoke_token(path: Path, name: str) -> None:
    """Take a token out of the file.

    Raises:
        LotteryFLError: the name has none, or the file cannot be read or written.
    """
    with _changing(path) as tokens:
        if tokens.pop(name, None) is None:
            raise SecurityError(f"{path}: {name} has no token")


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, _Token]]:
    """Give the file's tokens to the block, and write what it makes of them; one process at a time."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            tokens = dict(_load(path)) if path.exists() else {}
            yield tokens
            text = tomli_w.dumps(_Tokens.dump_python(tokens, mode="json"))
            with AtomicFile(path, mode=0o600) as file:
                file.write(text.encode(), 0)
        finally:
            os.close(folder)
    except OSError as error:
        raise LotteryFLError(f"{path}: cannot be written: {error.strerror}") from error


def _load(path: Path) -> Mapping[str, _Token]:
    try:
        return _Tokens.validate_python(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise SecurityError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise SecurityError(f"{path}: expected tokens as `lotteryfl token` writes them") from error


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
