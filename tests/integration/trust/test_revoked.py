"""Certificates and tokens that are revoked while their holders are at work, and certificates that are renewed."""

import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest

from lotteryfl.client.connection import Connection
from lotteryfl.common.security.channel import PROTOCOL_VERSION, open_channel
from lotteryfl.common.security.identity import Identity, Role
from lotteryfl.common.security.tls import ChannelSecurity, SecurityError, TLSFiles
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.security.certificates import COORDINATOR, REVOKED, Authority
from lotteryfl.server.security.tokens import revoke_token
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.credentials import Credentials
from tests.support.handworker import INCARNATION, HandWorker
from tests.support.looking import fails, status
from tests.support.processes import Gate, free_port
from tests.support.runs import GATED_TASK, Coordinate, Expect, Start, Write, assert_same_bits
from tests.support.waiting import DEADLINE, until

KINDS = ("cert", "key", "ca")
NAMES = ("tls.crt", "tls.key", "ca.crt")


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path)


def with_list(credentials: Credentials) -> Endpoint:
    """Return an endpoint with a list of revoked certificates, on which nobody is yet that matters."""
    authority = Authority(credentials.folder / "certs")
    authority.issue(Identity("gone", Role.WORKER), days=1)
    authority.revoke("gone")
    return replace(credentials.mutual, revoked=credentials.folder / "certs" / REVOKED)


def holders_copy(credentials: Credentials, name: str) -> list[str]:
    """Return the options of who has a copy of its certificate: revoked, it is the authority's that is gone."""
    shutil.copytree(credentials.folder / "certs" / name, credentials.folder / name)
    return [f"--tls-{option}={credentials.folder / name / file}" for option, file in zip(KINDS, NAMES, strict=True)]


@dataclass
class Caller:
    """A coordinator as another caller knows it."""

    stub: pb_grpc.CoordinatorStub
    task: str


@contextmanager
def calling(server: CoordinatorThread, security: ChannelSecurity) -> Iterator[Caller]:
    with open_channel(server.address, security) as channel:
        yield Caller(pb_grpc.CoordinatorStub(channel), server.task)


# -- revoked


def test_a_revoked_worker_ends_and_what_it_held_goes_back_unspent(
    credentials: Credentials, coordinate: Coordinate, start: Start, write: Write, gate: Gate
) -> None:
    """It is at work, and its poll for more is held open."""
    server = coordinate(write(round={"leases": 1}), endpoint=with_list(credentials), security=credentials.of("dash"))
    work = ("work", "--coordinator", server.address, "--task", GATED_TASK)
    alice = start(*work, *holders_copy(credentials, "alice"), env=gate.env)
    gate.arrival()
    Authority(credentials.folder / "certs").revoke("alice")
    until(lambda: {row.state for row in server.run.database.assignments(1)} == {"waiting"})
    gate.open()
    assert alice.exit_code() == 1
    assert alice.error_line == f"coordinator {server.address}: the certificate was revoked"
    rows = server.run.database.assignments(1)
    assert sorted((row.attempt, row.forgiven, row.reason) for row in rows) == [
        *[(0, 0, "")] * 2,
        (1, 1, "its certificate or token was revoked"),
    ]


@pytest.mark.slow
def test_others_finish_what_a_revoked_worker_held(
    credentials: Credentials, start: Start, write: Write, gate: Gate, expect: Expect, tmp_path: Path
) -> None:
    """The bits are those of a run in which nobody was."""
    path, endpoint = write(), with_list(credentials)
    listen = ("--listen", f"127.0.0.1:{free_port()}", f"--revoked={endpoint.revoked}")
    server = start("serve", path, "--run-dir", "run", *listen, *credentials.options(COORDINATOR))
    address = server.said(r"^listening at (\S+)")[1]
    work = ("work", "--coordinator", address, "--task", GATED_TASK)
    alice = start(*work, *holders_copy(credentials, "alice"), env=gate.env)
    gate.arrival()
    revoked = start("certs", "--out", "certs", "--revoke", "alice")
    assert (revoked.exit_code(), revoked.stderr) == (0, "")
    assert " is revoked for who has --revoked certs/revoked.pem\n" in revoked.stdout
    server.said("alice has left: its certificate or token was revoked")
    gate.open()
    assert alice.exit_code() == 1
    assert alice.error_line == f"coordinator {address}: the certificate was revoked"
    bob = start(*work, *credentials.options("bob"))
    assert (bob.exit_code(), server.exit_code()) == (0, 0), server.stderr
    assert_same_bits(tmp_path / "run", expect(path))


@pytest.mark.parametrize("shows", ["certificate", "token"])
def test_a_call_under_way_ends_when_what_it_has_shown_is_revoked(
    credentials: Credentials, coordinate: Coordinate, write: Write, shows: str
) -> None:
    if shows == "token":
        endpoint, security = credentials.with_tokens, credentials.by_token(credentials.new_token("alice"))
    else:
        endpoint, security = with_list(credentials), credentials.of("alice")
    server = coordinate(write(), endpoint=endpoint, security=security)
    alice = HandWorker(server, "alice/1")
    done = alice.work()
    watching = server.stub.WatchRun(pb.WatchRunRequest(), timeout=DEADLINE)
    assert len(next(watching).in_flight) == 1
    if shows == "token":
        revoke_token(credentials.tokens, "alice")
        reason = "the token is unknown, or was revoked"
    else:
        Authority(credentials.folder / "certs").revoke("alice")
        reason = "the certificate was revoked"
    for call in (lambda: [*watching], lambda: alice.submit(done.messages())):
        error = fails(call)
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAUTHENTICATED, reason)
    until(lambda: {row.state for row in server.run.database.assignments(1)} == {"waiting"})
    assert {(row.attempt, row.forgiven) for row in server.run.database.assignments(1)} == {(0, 0), (1, 1)}


def test_the_same_name_may_have_another_certificate(
    credentials: Credentials, coordinate: Coordinate, write: Write
) -> None:
    """The leases of who has that already stay, and the old one is not let in again."""
    endpoint, old = with_list(credentials), holders_copy(credentials, "alice")
    server = coordinate(write(), endpoint=endpoint, security=credentials.of("dash"))
    Authority(credentials.folder / "certs").revoke("alice")
    Authority(credentials.folder / "certs").issue(Identity("alice", Role.WORKER), days=1)
    with calling(server, credentials.of("alice")) as renewed:
        assert HandWorker(renewed, "alice").poll()[0].assignment.assignment_id
    files = TLSFiles(*(Path(option.partition("=")[2]) for option in old))
    with calling(server, ChannelSecurity(files)) as before:
        assert "the certificate was revoked" in (fails(lambda: HandWorker(before, "alice")).details() or "")
    assert len(status(server).in_flight) == 1


# -- renewed


def serial_shown(server: CoordinatorThread, files: TLSFiles) -> str:
    """Return the serial number of the certificate that a coordinator shows in a handshake."""
    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(str(files.cert), files.key)
    context.set_alpn_protocols(["h2"])
    host, _, port = server.address.rpartition(":")
    connection = socket.create_connection((host, int(port)), DEADLINE)
    with context.wrap_socket(connection, server_hostname=host) as channel:
        return str((channel.getpeercert() or {})["serialNumber"])


def test_the_next_handshake_is_made_with_the_renewed_certificate_and_one_that_is_broken_is_not_taken(
    credentials: Credentials, coordinate: Coordinate, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    server = coordinate(write(), endpoint=credentials.mutual, security=credentials.of("alice"))
    alice, own = credentials.files("alice"), credentials.files(COORDINATOR)
    assert own.cert
    first = serial_shown(server, alice)
    own.cert.unlink()
    Authority(credentials.folder / "certs").issue_to_coordinator(["localhost"], days=2)
    renewed = serial_shown(server, alice)
    assert renewed != first
    own.cert.write_text("not a certificate")
    assert serial_shown(server, alice) == serial_shown(server, alice) == renewed
    assert caplog.text.count("the certificate from before is used on") == 1
    assert status(server).state == pb.RunStatus.RUNNING, "connections from before hold"


def test_a_caller_takes_its_new_certificates_when_it_has_lost_its_connection(
    credentials: Credentials, coordinate: Coordinate, write: Write, tmp_path: Path
) -> None:
    address, path = f"127.0.0.1:{free_port()}", write()
    alice, others = credentials.files("alice"), Credentials(tmp_path / "other")
    first = coordinate(path, "first", replace(credentials.mutual, address=address), credentials.of("alice"))
    request = pb.RegisterRequest(protocol=PROTOCOL_VERSION, name="alice", incarnation=INCARNATION)
    with Connection(address, DEADLINE, ChannelSecurity(alice)) as connection:
        assert connection.register(request).run_id == first.run.run_id
        first.__exit__(None, None, None)
        for file in NAMES:
            (others.folder / "certs/alice" / file).replace(tmp_path / "certs/alice" / file)
        second = coordinate(path, "second", replace(others.mutual, address=address), ChannelSecurity(alice))
        assert connection.register(request).run_id == second.run.run_id


@pytest.mark.slow
def test_all_certificates_are_another_authoritys_in_the_middle_of_a_run(
    credentials: Credentials, start: Start, write: Write, gate: Gate, expect: Expect, tmp_path: Path
) -> None:
    """The coordinator takes them without a restart, a worker at work when it has lost its connection."""
    path = write(round={"leases": 1})
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    serve = ("serve", path, "--run-dir", "run", *listen, *credentials.options(COORDINATOR))
    server = start(*serve)
    address = server.said(r"^listening at (\S+)")[1]
    work = ("work", "--coordinator", address, "--task", GATED_TASK)
    alice = start(*work, *credentials.options("alice"), env=gate.env)
    visit = gate.arrival()
    others = Credentials(tmp_path / "other")
    for name in (COORDINATOR, "alice"):
        for file in NAMES:
            (others.folder / "certs" / name / file).replace(tmp_path / "certs" / name / file)
    bob = start(*work, *others.options("bob"), env=gate.env)
    gate.arrival()  # bob is let in, and by now at work
    server.send(signal.SIGKILL)
    server.exit_code()
    visit.let_go()
    server = start(*serve)
    alice.said("certificates were read again")
    gate.open()
    assert (alice.exit_code(), bob.exit_code(), server.exit_code()) == (0, 0, 0), alice.stderr + server.stderr
    assert_same_bits(tmp_path / "run", expect(path))


def test_a_list_that_is_none_or_anothers_is_named(credentials: Credentials, tmp_path: Path) -> None:
    endpoint, revoked = with_list(credentials), tmp_path / "list.pem"
    for content, reason in ((None, "cannot be read"), (b"", "expected a list of revoked certificates, in PEM")):
        if content is not None:
            revoked.write_bytes(content)
        with pytest.raises(SecurityError, match=f"list.pem: {reason}"):
            replace(endpoint, revoked=revoked).check()
    other = with_list(Credentials(tmp_path / "other"))
    with pytest.raises(SecurityError, match=r"revoked\.pem: is signed by none of "):
        replace(endpoint, revoked=other.revoked).check()
    with pytest.raises(SecurityError, match="--revoked: is of use only together with --tls-ca"):
        replace(credentials.with_tokens, revoked=endpoint.revoked).check()
