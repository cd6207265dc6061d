"""Whether the files by which this side shows who it is can be used, and by whom."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography import x509

from lotteryfl.common.disk.privatefiles import is_open
from lotteryfl.common.security.tls import TLSFiles, read_token, token_name
from lotteryfl.tending.doctor.check import Check, close_command, looked

_SOON_DAYS = 7
_ADVICE = "`lotteryfl certs` makes another where the old one's files are moved away"


def checks_of_secrets(tls: TLSFiles, token_file: Path | None, tokens: Path | None) -> Iterator[Check]:
    """Look at certificates, keys and tokens; none is told.

    Args:
        tls: of this side.
        token_file: that holds this side's token.
        tokens: a coordinator's file of tokens.
    """
    for name, file in (("certificate", tls.cert), ("authority", tls.ca)):
        if file is not None:
            yield from looked(name, partial(_certificate, name, file))
    if tls.key is not None:
        yield from looked("key", partial(_key, tls, tls.key))
    if token_file is not None:
        yield from looked("token", partial(_token, token_file))
    if tokens is not None:
        yield from looked("tokens", partial(_tokens, tokens))


def valid(subject: str, certificate: x509.Certificate, where: str) -> Check:
    """Say until when a certificate is valid."""
    now, begins, ends = datetime.now(UTC), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    found = f"{where}: valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}"
    if now > ends:
        return Check("fail", subject, f"{found}: has expired", _ADVICE)
    if now < begins:
        return Check("fail", subject, f"{found}: not yet", "set this machine's clock")
    days = (ends - now).days
    return Check(
        "warn" if days < _SOON_DAYS else "ok",
        subject,
        f"{found}, {days} days left",
        _ADVICE if days < _SOON_DAYS else "",
    )


def _certificate(subject: str, file: Path) -> Iterator[Check]:
    for certificate in x509.load_pem_x509_certificates(file.read_bytes()):
        yield valid(subject, certificate, str(file))


def _key(tls: TLSFiles, key: Path) -> Iterator[Check]:
    tls.pair()
    yield _private("key", key)


def _token(file: Path) -> Iterator[Check]:
    name = token_name(read_token(file.read_text(encoding="utf-8-sig"), str(file)))
    yield Check("ok", "token", f"{file}: is for {name}")
    yield _private("token file", file)


def _tokens(file: Path) -> Iterator[Check]:
    from lotteryfl.server.security.tokens import TokenFile

    TokenFile(file)
    yield _private("tokens", file)


def _private(subject: str, file: Path) -> Check:
    if is_open(file):
        mode = file.stat().st_mode & 0o777
        return Check(
            "warn", subject, f"{file}: mode {mode:04o}: others of this machine can read it", close_command(file)
        )
    return Check("ok", subject, f"{file}: its owner's alone")
