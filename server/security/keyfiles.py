"""Files of keys and certificates: nobody else's to read from their first moment on, and never overwritten."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from lotteryfl.common.disk.folders import sync_folder
from lotteryfl.common.security.tls import SecurityError

Key = ec.EllipticCurvePrivateKey


def make_folder(path: Path) -> None:
    """Make a folder for its owner alone, unless it is there.

    Raises:
        SecurityError: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SecurityError(f"{path}: cannot be made: {error.strerror}") from error


def load_or_make_key(path: Path) -> Key:
    """Return the private key of a file, which is made where it is missing; its owner alone may read it.

    Raises:
        SecurityError: it cannot be read or written, or is no such key.
    """
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_new(path, pem, mode=0o600)
        return key
    try:
        found = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise SecurityError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise SecurityError(f"{path}: expected an unencrypted private key in PEM") from error
    if not isinstance(found, Key):
        raise SecurityError(f"{path}: expected a key of an elliptic curve")
    return found


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that is not there yet, whole or not at all.

    Raises:
        SecurityError: it is there, or cannot be written.
    """
    try:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")
    except OSError as error:
        raise SecurityError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise SecurityError(f"{path}: cannot be written: {error.strerror}") from error
