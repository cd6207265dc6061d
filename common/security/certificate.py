"""What a certificate says about its holder, read from its file."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from lotteryfl.common.security.identity import Identity
from lotteryfl.common.security.tls import SecurityError


def load_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file.

    Raises:
        SecurityError: there is none, or it is not valid now.
    """
    try:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        raise SecurityError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SecurityError(f"{path}: expected a certificate in PEM") from error
    now = datetime.now(UTC)
    if now > certificate.not_valid_after_utc:
        raise SecurityError(f"{path}: has expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if now < certificate.not_valid_before_utc:
        raise SecurityError(f"{path}: is only valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on")
    return certificate


def identity_of(certificate: x509.Certificate) -> Identity:
    """Return who a certificate is for.

    Raises:
        IdentityError: it does not say so.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    common_names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return Identity.of_certificate(names.get_values_for_type(x509.UniformResourceIdentifier), common_names)
