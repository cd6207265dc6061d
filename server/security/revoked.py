"""Certificates that are revoked before their time: a list as X.509 has it, in PEM, which may be changed at any time."""

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from lotteryfl.common.disk.atomicfile import AtomicFile
from lotteryfl.common.disk.fileversion import FileVersion, file_version
from lotteryfl.common.security.identity import IdentityError
from lotteryfl.common.security.tls import SecurityError
from lotteryfl.server.security.keyfiles import Key

_log = logging.getLogger("lotteryfl.coordinator")
_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


class RevokedCertificates:
    """The lists of a file, one of each authority. One that is past its next update still holds."""

    def __init__(self, path: Path, authorities: Path) -> None:
        """Read the file.

        Args:
            path: the file.
            authorities: that of the authorities, of which one must have signed each list.

        Raises:
            SecurityError: it cannot be read, or is none.
        """
        self._path = path
        self._authorities = authorities
        self._version = file_version(path)
        self._lists = self._load()

    @property
    def version(self) -> FileVersion | None:
        """What another list changes."""
        self._reload_if_changed()
        return self._version

    def check(self, certificate: bytes) -> None:
        """Check a certificate, in PEM.

        Raises:
            IdentityError: it was revoked.
        """
        self._reload_if_changed()
        issuer, serial = _named(certificate)
        found = self._lists.get(issuer)
        if found is not None and found.get_revoked_certificate_by_serial_number(serial) is not None:
            raise IdentityError("the certificate was revoked")

    def _reload_if_changed(self) -> None:
        """Read the file again where it is another one; while it cannot be read, what was revoked stays so."""
        version = file_version(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._lists = self._load()
        except SecurityError as error:
            _log.warning("%s; until then the last one holds", error)

    def _load(self) -> Mapping[x509.Name, x509.CertificateRevocationList]:
        try:
            found = [x509.load_pem_x509_crl(pem) for pem in _LIST.findall(self._path.read_bytes())]
            authorities = x509.load_pem_x509_certificates(self._authorities.read_bytes())
        except OSError as error:
            raise SecurityError(f"{error.filename}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise SecurityError(f"{self._path}: expected a list of revoked certificates, in PEM") from error
        if not found:
            raise SecurityError(f"{self._path}: expected a list of revoked certificates, in PEM")
        for each in found:
            if not any(_is_signed_by(each, authority) for authority in authorities):
                raise SecurityError(f"{self._path}: is signed by none of {self._authorities}")
        return {each.issuer: each for each in found}


def write_revoked(path: Path, authority: x509.Certificate, key: Key, *certificates: x509.Certificate) -> None:
    """Add certificates to an authority's list, which is made where it is missing.

    Args:
        path: of the list.
        authority: the authority's own certificate.
        key: the authority's.
        certificates: what does not count any more.

    Raises:
        SecurityError: the list cannot be read or written.
    """
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.subject)
    builder = builder.last_update(now).next_update(authority.not_valid_after_utc)
    unnamed = x509.RevokedCertificateBuilder().revocation_date(now)
    entries = [unnamed.serial_number(certificate.serial_number).build() for certificate in certificates]
    try:
        before = x509.load_pem_x509_crl(path.read_bytes()) if path.exists() else ()
        for each in (*before, *entries):
            builder = builder.add_revoked_certificate(each)
        with AtomicFile(path) as file:
            file.write(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), 0)
    except OSError as error:
        raise SecurityError(f"{path}: cannot be written: {error.strerror}") from error
    except ValueError as error:
        raise SecurityError(f"{path}: expected a list of revoked certificates, in PEM") from error


def _is_signed_by(revoked: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    with suppress(TypeError, InvalidSignature):  # a key of another kind
        return revoked.issuer == authority.subject and revoked.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    return False


@lru_cache(maxsize=4096)
def _named(certificate: bytes) -> tuple[x509.Name, int]:
    """Return an authority's name, and which of its certificates this is."""
    found = x509.load_pem_x509_certificate(certificate)
    return found.issuer, found.serial_number
