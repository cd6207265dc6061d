"""A small certification authority in a folder: its key, and a folder for everyone whom it certifies.

DIR/ca.key, DIR/ca.crt      the authority; its key signs, and never has to leave the folder
DIR/revoked.pem             which of its certificates do not count any more: none at first. The coordinator looks at it
DIR/NAME/tls.key, tls.crt   of the coordinator, a worker, an observer or an operator
DIR/NAME/ca.crt             the authority's certificate again: the folder is all that its holder needs
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lotteryfl.common.security.certificate import load_certificate
from lotteryfl.common.security.identity import Identity
from lotteryfl.common.security.tls import SecurityError
from lotteryfl.server.security.keyfiles import Key, load_or_make_key, make_folder, write_new
from lotteryfl.server.security.revoked import write_revoked

COORDINATOR = "coordinator"
"""The name in the coordinator's own certificate."""

REVOKED = "revoked.pem"
"""The list of revoked certificates in an authority's folder."""

_LOCAL = ("localhost", "127.0.0.1", "::1")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_CA_DAYS = 3650
_CLOCKS_DIFFER = timedelta(hours=1)


class Authority:
    """Issues certificates; who has one already keeps it."""

    def __init__(self, folder: Path) -> None:
        """Take up the authority of a folder, or found one there.

        Raises:
            LotteryFLError: a file cannot be read or written, or is not what its name says.
        """
        self._folder = folder
        path, key = folder / "ca.crt", folder / "ca.key"
        if path.exists() and not key.exists():
            raise SecurityError(f"{key}: is missing: without it nothing more can be signed")
        make_folder(folder)
        self._key = load_or_make_key(key)
        if not path.exists():
            write_new(path, _self_signed(self._key).public_bytes(Encoding.PEM))
        self._certificate = load_certificate(path)
        _check_pair(path, self._certificate, self._key)
        if not (folder / REVOKED).exists():  # a coordinator that is to look at it wants it before anything is on it
            write_revoked(folder / REVOKED, self._certificate, self._key)

    def issue_to_coordinator(self, hosts: Sequence[str], days: int) -> x509.Certificate:
        """Return the coordinator's certificate for these host names and addresses, and for this machine's own.

        Args:
            hosts: where callers reach it.
            days: for how long a new one is valid.

        Raises:
            LotteryFLError: a host is none, a file cannot be used, or the certificate that is there lacks a host.
        """
        names = [_host(host) for host in dict.fromkeys((*hosts, *_LOCAL))]
        return self._issue(COORDINATOR, names, ExtendedKeyUsageOID.SERVER_AUTH, days)

    def issue(self, identity: Identity, days: int) -> x509.Certificate:
        """Return the certificate of a worker, an observer or an operator.

        Args:
            identity: its name and role.
            days: for how long a new one is valid.

        Raises:
            LotteryFLError: a file cannot be used, or the certificate that is there is for another role.
        """
        names = [x509.UniformResourceIdentifier(identity.uri)]
        return self._issue(identity.name, names, ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def revoke(self, name: str) -> x509.Certificate:
        """Put the certificate that a name has here on the list of revoked ones, and remove it with its key.

        The next one of this name is made under a new key.

        Raises:
            LotteryFLError: the name has none, or a file cannot be used.
        """
        path = self._folder / name / "tls.crt"
        certificate = load_certificate(path)
        self._check(path, certificate, ())
        write_revoked(self._folder / REVOKED, self._certificate, self._key, certificate)
        for each in (path, path.with_suffix(".key")):
            each.unlink(missing_ok=True)
        return certificate

    def _issue(
        self, name: str, names: Sequence[x509.GeneralName], usage: x509.ObjectIdentifier, days: int
    ) -> x509.Certificate:
        folder = self._folder / name
        make_folder(folder)
        key, path = load_or_make_key(folder / "tls.key"), folder / "tls.crt"
        if not (folder / "ca.crt").exists():
            write_new(folder / "ca.crt", self._certificate.public_bytes(Encoding.PEM))
        if not path.exists():
            write_new(path, self._sign(name, key, names, usage, days).public_bytes(Encoding.PEM))
        certificate = load_certificate(path)
        _check_pair(path, certificate, key)
        self._check(path, certificate, names)
        return certificate

    def _sign(
        self, name: str, key: Key, names: Sequence[x509.GeneralName], usage: x509.ObjectIdentifier, days: int
    ) -> x509.Certificate:
        end = min(datetime.now(UTC) + timedelta(days=days), self._certificate.not_valid_after_utc)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _builder(_subject(name), self._certificate.subject, key, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())

    def _check(self, path: Path, certificate: x509.Certificate, names: Sequence[x509.GeneralName]) -> None:
        """Check that a certificate is this authority's, and for these names."""
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise SecurityError(f"{path}: is of another authority than {self._folder / 'ca.crt'}") from error
        has = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        missing = [str(name.value) for name in names if name not in has]
        if missing:
            raise SecurityError(
                f"{path}: is not for {', '.join(missing)}; remove it to have it made anew, under the same key"
            )


def _self_signed(key: Key) -> x509.Certificate:
    """Return an authority's own certificate; its name follows from its key, so that no two have the same."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name = _subject(f"LotteryFL authority {hashlib.sha256(public).hexdigest()[:12]}")
    builder = _builder(name, name, key, datetime.now(UTC) + timedelta(days=_CA_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(_key_usage(signs_certificates=True), critical=True).sign(key, hashes.SHA256())


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _CLOCKS_DIFFER)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _check_pair(path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    if certificate.public_key() != key.public_key():
        raise SecurityError(f"{path}: does not belong to the key {path.with_suffix('.key')}")


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            raise SecurityError(f"host {host!r}: expected a host's name or address, without a port") from None
        return x509.DNSName(host)
