"""Where plaintext is enough, and what is said about files and tokens that cannot be used."""

import subprocess
import sys
from pathlib import Path

import pytest

from lotteryfl.common.security.certificate import load_certificate
from lotteryfl.common.security.identity import Identity, Role
from lotteryfl.common.security.tls import ChannelSecurity, SecurityError, TLSFiles, is_loopback, read_token
from lotteryfl.server.security.certificates import Authority
from tests.support.paths import ROOT

TOKEN = f"gpu-1.{'s' * 43}"
HERE = (
    "localhost:7000",
    "127.0.0.1:7000",
    "127.9.9.9:0",
    "[::1]:7000",
    "unix:/run/lotteryfl",
    "unix-abstract:lotteryfl",
)
BEYOND = (
    "0.0.0.0:7000",
    "[::]:7000",
    ":7000",
    "*:7000",
    "10.0.0.1:7000",
    "localhost.example.org:7000",
    "dns:///localhost:7",
    "h",
)


@pytest.mark.parametrize("address", HERE)
def test_plaintext_is_enough_on_this_machine(address: str) -> None:
    assert is_loopback(address)
    assert ChannelSecurity().check(address) == ""


@pytest.mark.parametrize("address", BEYOND)
def test_beyond_this_machine_plaintext_has_to_be_wanted(address: str) -> None:
    assert not is_loopback(address)
    with pytest.raises(SecurityError, match=r"nothing would be encrypted.*--insecure"):
        ChannelSecurity().check(address)
    assert (
        ChannelSecurity(insecure=True).check(address).startswith(f"warning: calls to {address} are neither encrypted")
    )
    assert ChannelSecurity(TLSFiles(ca=Path("ca.crt"))).check(address) == ""


@pytest.mark.parametrize("address", ["localhost:7000", "10.0.0.1:7000"])
@pytest.mark.parametrize("insecure", [False, True])
def test_a_token_is_never_sent_in_plaintext(address: str, insecure: bool) -> None:
    with pytest.raises(SecurityError, match="a token is sent over TLS alone"):
        ChannelSecurity(token=TOKEN, insecure=insecure).check(address)


def test_a_certificate_alone_does_not_say_whom_to_trust() -> None:
    with pytest.raises(SecurityError, match="--tls-ca: the authority of the coordinator's certificate is missing"):
        ChannelSecurity(TLSFiles(Path("a"), Path("b"))).check("localhost:7000")


def test_a_token_is_not_shown_by_accident() -> None:
    assert read_token(f" {TOKEN}\n", "file") == TOKEN
    assert TOKEN not in repr(ChannelSecurity(TLSFiles(ca=Path("ca")), TOKEN))
    for text in ("", "secret", f"{TOKEN} {TOKEN}", f"a/b.{'s' * 43}", TOKEN + "s"):
        with pytest.raises(SecurityError) as error:
            read_token(text, "file")
        assert str(error.value) == "file: holds no token; expected NAME.SECRET as `lotteryfl token NAME` prints it"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a and b, of an authority, and one of `old`, whose certificate has expired."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    for name in ("a", "b"):
        authority.issue(Identity(name, Role.WORKER), days=1)
    with pytest.raises(SecurityError, match="has expired"):
        authority.issue(Identity("old", Role.WORKER), days=0)
    (folder / "text").write_text("no certificate")
    (folder / "encrypted.key").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGbMFcGCSqGSIb3DQEFDTBK\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    return folder


@pytest.mark.parametrize(
    ("cert", "key", "error"),
    [
        ("a/tls.crt", None, "a certificate and its key are needed together"),
        (None, "a/tls.key", "a certificate and its key are needed together"),
        ("a/tls.crt", "b/tls.key", "b/tls.key: is not the key of .*a/tls.crt"),
        ("none", "a/tls.key", "none: cannot be read: No such file"),
        ("a", "a/tls.key", "a: cannot be read: Is a directory"),
        ("text", "a/tls.key", "expected a certificate and its unencrypted key, in PEM"),
        ("a/tls.crt", "encrypted.key", "expected a certificate and its unencrypted key, in PEM"),
    ],
)
def test_a_pair_that_cannot_be_used(certificates: Path, cert: str | None, key: str | None, error: str) -> None:
    with pytest.raises(SecurityError, match=error):
        TLSFiles(certificates / cert if cert else None, certificates / key if key else None).pair()


@pytest.mark.parametrize(
    ("ca", "error"),
    [
        ("none", "cannot be read"),
        ("text", "expected certificates of an authority"),
        ("a/tls.crt", "not one of an authority"),
    ],
)
def test_an_authority_that_cannot_be_used(certificates: Path, ca: str, error: str) -> None:
    with pytest.raises(SecurityError, match=error):
        TLSFiles(ca=certificates / ca).authorities()


def test_files_that_can_be_used(certificates: Path) -> None:
    tls = TLSFiles(certificates / "a/tls.crt", certificates / "a/tls.key", certificates / "ca.crt")
    assert tls.pair() == ((certificates / "a/tls.key").read_bytes(), (certificates / "a/tls.crt").read_bytes())
    assert tls.authorities() == (certificates / "ca.crt").read_bytes()
    assert TLSFiles().pair() is TLSFiles().authorities() is None
    load_certificate(certificates / "a/tls.crt")


def test_a_certificate_that_has_expired(certificates: Path) -> None:
    with pytest.raises(SecurityError, match=r"old/tls\.crt: has expired on \d{4}-\d\d-\d\d"):
        load_certificate(certificates / "old/tls.crt")


def test_asking_for_a_status_is_cheap() -> None:
    """As a health check does every few seconds; over TLS too."""
    code = "import sys, lotteryfl.commands.inspect; sys.exit(bool({'torch', 'cryptography'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
