"""`lotteryfl certs --revoke`, the list that it writes, and who reads it; operators' certificates and tokens."""

import logging
from pathlib import Path

import pytest
from click import UsageError
from click.testing import CliRunner
from cryptography import x509

from lotteryfl.commands.security import certs, token
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.certificate import identity_of, load_certificate
from lotteryfl.common.security.identity import Identity, IdentityError, Role
from lotteryfl.server.security.revoked import RevokedCertificates
from lotteryfl.server.security.tokens import TokenFile


def make(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(certs, ["--out", str(folder), *arguments], catch_exceptions=False, standalone_mode=False)
    return done.output


def test_a_revoked_certificate_is_on_the_list_and_the_next_one_is_under_another_key(tmp_path: Path) -> None:
    make(tmp_path, "--worker", "a", "--worker", "b")
    RevokedCertificates(tmp_path / "revoked.pem", tmp_path / "ca.crt").check((tmp_path / "a/tls.crt").read_bytes())
    old, key = load_certificate(tmp_path / "a/tls.crt"), (tmp_path / "a/tls.key").read_bytes()
    other = (tmp_path / "b/tls.crt").read_bytes()
    pem = (tmp_path / "a/tls.crt").read_bytes()
    said = make(tmp_path, "--revoke", "a")
    assert said == (
        f"{tmp_path}/a: certificate {old.serial_number:x} is revoked for who has --revoked {tmp_path}/revoked.pem\n"
    )
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["ca.crt"]
    revoked = RevokedCertificates(tmp_path / "revoked.pem", tmp_path / "ca.crt")
    with pytest.raises(IdentityError, match=r"^the certificate was revoked$"):
        revoked.check(pem)
    revoked.check(other)
    make(tmp_path, "--worker", "a")
    assert (tmp_path / "a/tls.key").read_bytes() != key
    revoked.check((tmp_path / "a/tls.crt").read_bytes())
    make(tmp_path, "--revoke", "b", "--revoke", "a", "--worker", "c")
    listed = x509.load_pem_x509_crl((tmp_path / "revoked.pem").read_bytes())
    assert len(listed) == 3
    with pytest.raises(IdentityError):
        revoked.check(other)


def test_a_list_that_cannot_be_read_any_more_still_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "--worker", "a")
    pem = (tmp_path / "a/tls.crt").read_bytes()
    make(tmp_path, "--revoke", "a")
    file = tmp_path / "revoked.pem"
    revoked, kept = RevokedCertificates(file, tmp_path / "ca.crt"), file.read_bytes()
    with caplog.at_level(logging.WARNING):
        for content in (b"rubbish", None, b"-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----"):
            file.unlink() if content is None else file.write_bytes(content)
            for _ in range(2):
                with pytest.raises(IdentityError):
                    revoked.check(pem)
    assert [record.message.endswith("until then the last one holds") for record in caplog.records] == [True] * 3
    file.write_bytes(kept)
    with pytest.raises(IdentityError):
        revoked.check(pem)


def test_lists_of_several_authorities_are_one_file(tmp_path: Path) -> None:
    one, other, both = tmp_path / "one", tmp_path / "other", tmp_path / "both"
    both.mkdir()
    pems = []
    for folder in (one, other):
        make(folder, "--worker", "a")
        pems.append((folder / "a/tls.crt").read_bytes())
        make(folder, "--revoke", "a")
    for name in ("ca.crt", "revoked.pem"):
        (both / name).write_bytes(b"".join((folder / name).read_bytes() for folder in (one, other)))
    revoked = RevokedCertificates(both / "revoked.pem", both / "ca.crt")
    for pem in pems:
        with pytest.raises(IdentityError):
            revoked.check(pem)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("b", "b/tls.crt: cannot be read: No such file"),
        ("coordinator", "name 'coordinator': is taken"),
        ("../a", "name '../a': expected"),
        ("revoked.pem", "name 'revoked.pem': is taken"),
    ],
)
def test_what_cannot_be_revoked_is_named(tmp_path: Path, name: str, error: str) -> None:
    make(tmp_path, "--coordinator", "h", "--worker", "a")
    with pytest.raises(LotteryFLError) as raised:
        make(tmp_path, "--revoke", name)
    assert error in str(raised.value)
    assert len(x509.load_pem_x509_crl((tmp_path / "revoked.pem").read_bytes())) == 0


def test_operators_have_certificates_and_tokens(tmp_path: Path) -> None:
    made = make(tmp_path, "--operator", "olga")
    assert f"{tmp_path}/olga: operator olga, until " in made
    operator = Identity("olga", Role.OPERATOR)
    assert identity_of(load_certificate(tmp_path / "olga/tls.crt")) == operator
    arguments = ["olga", "--tokens", str(tmp_path / "tokens.toml"), "--operator"]
    said = CliRunner().invoke(token, arguments, catch_exceptions=False, standalone_mode=False).stdout.strip()
    assert TokenFile(tmp_path / "tokens.toml").identify(said) == operator
    with pytest.raises(UsageError, match="expected one of --observer and --operator"):
        CliRunner().invoke(token, [*arguments, "--observer"], catch_exceptions=False, standalone_mode=False)
