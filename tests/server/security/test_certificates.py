"""`lotteryfl certs`: what it makes, who can read it, and what it leaves alone."""

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509

from lotteryfl.commands.security import certs
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.certificate import identity_of, load_certificate
from lotteryfl.common.security.identity import Identity, Role
from tests.support.waiting import DEADLINE


def make(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(certs, ["--out", str(folder), *arguments], catch_exceptions=False, standalone_mode=False)
    return done.output


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> tuple[str, str]:
    """Let both sides try, and return what each of them says: an error, or nothing."""
    ends = socket.socketpair()
    said = ["", ""]

    def side(number: int, context: ssl.SSLContext, **how: object) -> None:
        with ends[number] as end:
            end.settimeout(DEADLINE)
            try:
                with context.wrap_socket(end, **how) as channel:  # type: ignore[arg-type]
                    channel.sendall(b"x")
                    assert channel.recv(1) == b"x"
            except (ssl.SSLError, OSError) as error:
                said[number] = str(error)

    other = threading.Thread(target=side, args=(0, server), kwargs={"server_side": True})
    other.start()
    side(1, client, server_hostname=host)
    other.join()
    return said[0], said[1]


def context(folder: Path, name: str, *, serves: bool) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if serves else ssl.PROTOCOL_TLS_CLIENT)
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(folder / name / "ca.crt")
    made.load_cert_chain(folder / name / "tls.crt", folder / name / "tls.key")
    return made


def test_keys_are_nobody_elses_from_their_first_moment_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(f"os.{name}", None)  # a key must not be open to others first, and closed then
    make(tmp_path / "deep/certs", "--coordinator", "gpu.example.org", "--worker", "a")
    folder = tmp_path / "deep/certs"
    modes = {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    assert {name: mode for name, mode in modes.items() if mode & 0o77} == {
        name: 0o644 for name in modes if name.endswith(".crt")
    }
    assert sorted(name for name in modes if name.endswith(".key")) == ["a/tls.key", "ca.key", "coordinator/tls.key"]


def test_the_coordinators_certificate_names_its_hosts_and_this_machine(tmp_path: Path) -> None:
    make(tmp_path, "--coordinator", "gpu.example.org,10.0.0.7,*.pods,fd00::1", "--days", "30")
    certificate = load_certificate(tmp_path / "coordinator/tls.crt")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"gpu.example.org", "*.pods", "localhost"}
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"10.0.0.7", "fd00::1", "127.0.0.1", "::1"}
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 30


def test_a_workers_and_an_observers_certificate_name_them(tmp_path: Path) -> None:
    output = make(tmp_path, "--worker", "gpu-1", "--observer", "dash", "--worker", "gpu-2")
    assert f"{tmp_path / 'gpu-1'}: worker gpu-1, until " in output
    found = {path.parent.name: identity_of(load_certificate(path)) for path in tmp_path.glob("*/tls.crt")}
    assert found == {
        "gpu-1": Identity("gpu-1", Role.WORKER),
        "gpu-2": Identity("gpu-2", Role.WORKER),
        "dash": Identity("dash", Role.OBSERVER),
    }


def test_both_sides_trust_each_other_and_nobody_else(tmp_path: Path) -> None:
    """OpenSSL is the judge: authority, host names, and what a certificate is for."""
    for folder in ("one", "other"):
        make(tmp_path / folder, "--coordinator", "gpu.example.org", "--worker", "localhost")
    one, other = tmp_path / "one", tmp_path / "other"
    coordinator, worker = context(one, "coordinator", serves=True), context(one, "localhost", serves=False)
    for host in ("gpu.example.org", "localhost", "127.0.0.1", "::1"):
        assert shake_hands(coordinator, worker, host) == ("", "")
    assert "Hostname mismatch" in shake_hands(coordinator, worker, "example.org")[1]
    assert (
        "certificate verify failed"
        in shake_hands(coordinator, context(other, "localhost", serves=False), "localhost")[1]
    )
    stranger = context(other, "localhost", serves=False)
    stranger.load_verify_locations(one / "ca.crt")
    assert "certificate verify failed" in shake_hands(coordinator, stranger, "localhost")[0]
    pretender = context(one, "localhost", serves=True)
    assert "unsuitable certificate purpose" in shake_hands(pretender, worker, "localhost")[1]
    turned = context(one, "coordinator", serves=False)
    assert "unsuitable certificate purpose" in shake_hands(coordinator, turned, "localhost")[0]


def test_run_again_it_adds_what_is_new_and_changes_nothing(tmp_path: Path) -> None:
    make(tmp_path, "--coordinator", "h", "--worker", "a")
    before = everything(tmp_path)
    make(tmp_path, "--coordinator", "h", "--worker", "a", "--worker", "b", "--observer", "dash")
    after = everything(tmp_path)
    assert before.items() < after.items()
    assert {name.partition("/")[0] for name in after.keys() - before.keys()} == {"b", "dash"}
    coordinator = context(tmp_path, "coordinator", serves=True)
    assert shake_hands(coordinator, context(tmp_path, "b", serves=False), "h") == ("", "")


def test_what_an_interrupted_one_has_left_is_gone_on_with(tmp_path: Path) -> None:
    make(tmp_path, "--coordinator", "h", "--worker", "a")
    for name in ("ca.crt", "a/tls.crt", "a/ca.crt"):
        (tmp_path / name).unlink()
    kept = everything(tmp_path)
    make(tmp_path, "--worker", "a")
    assert kept.items() < everything(tmp_path).items()
    pair = context(tmp_path, "coordinator", serves=True), context(tmp_path, "a", serves=False)
    assert shake_hands(*pair, "h") == ("", "")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "nothing to make: name the --coordinator's hosts, a --worker or an --observer"),
        (("--worker", "a/b"), "name 'a/b': expected 1 to 64 letters"),
        (("--worker", "../a"), "name '../a': expected"),
        (("--worker", "a:b"), "name 'a:b': expected"),
        (("--worker", "new", "--observer", "new"), "name 'new': is given 2 times"),
        (("--worker", "coordinator"), "name 'coordinator': is taken"),
        (("--worker", "ca.key"), "name 'ca.key': is taken"),
        (("--coordinator", "host:7000"), "host 'host:7000': expected a host's name or address, without a port"),
        (("--coordinator", "h,"), "host '': expected"),
        (("--coordinator", "h,new.example.org,10.0.0.1"), "not for new.example.org, 10.0.0.1; remove it"),
        (("--observer", "a"), "a/tls.crt: is not for urn:lotteryfl:observer:a; remove it"),
    ],
)
def test_what_cannot_be_made_is_named(tmp_path: Path, arguments: tuple[str, ...], error: str) -> None:
    make(tmp_path, "--coordinator", "h", "--worker", "a")
    before = everything(tmp_path)
    with pytest.raises(LotteryFLError) as raised:
        make(tmp_path, *arguments)
    assert error in str(raised.value)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("path", "content", "error"),
    [
        ("ca.key", None, "ca.key: is missing: without it nothing more can be signed"),
        ("ca.key", "x", "ca.key: expected an unencrypted private key in PEM"),
        ("ca.crt", "x", "ca.crt: expected a certificate in PEM"),
        ("ca.key", "coordinator/tls.key", "ca.crt: does not belong to the key"),
        ("a/tls.key", None, "a/tls.crt: does not belong to the key"),
    ],
)
def test_a_damaged_folder_is_named_and_its_keys_stay(
    tmp_path: Path, path: str, content: str | None, error: str
) -> None:
    make(tmp_path, "--coordinator", "h", "--worker", "a")
    (tmp_path / path).unlink()
    if content is not None:
        source = tmp_path / content
        (tmp_path / path).write_bytes(source.read_bytes() if source.exists() else content.encode())
    before = everything(tmp_path)
    with pytest.raises(LotteryFLError) as raised:
        make(tmp_path, "--coordinator", "h", "--worker", "a")
    assert error in str(raised.value)
    assert before.items() <= everything(tmp_path).items()


def test_a_certificate_of_another_authority_is_named(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        make(tmp_path / folder, "--worker", "a")
    for name in ("tls.key", "tls.crt"):
        (tmp_path / "one/a" / name).write_bytes((tmp_path / "other/a" / name).read_bytes())
    with pytest.raises(LotteryFLError, match=r"a/tls\.crt: is of another authority"):
        make(tmp_path / "one", "--worker", "a")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LotteryFLError, match="file/certs: cannot be made: Not a directory"):
        make(tmp_path / "file/certs", "--worker", "a")
