"""Over mutual TLS: a worker with a certificate can do nothing as another, and its words are not kept or repeated."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lotteryfl.common.experiment.experiment import load
from lotteryfl.common.security.tls import ChannelSecurity, TLSFiles
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.rpc.limits import Limits
from tests.integration.hostile.callers import ATTACKS, Victim, expect, register_as
from tests.integration.hostile.forgery import CHUNK, payload_of, upload
from tests.integration.hostile.hostilerun import HOSTILE, write_experiment
from tests.integration.hostile.rawpeer import Code, RawPeer
from tests.integration.hostile.sockets import GARBAGE, connect, hung_up, many_connections, say, some_and_wait
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.credentials import Credentials
from tests.support.handworker import HandWorker
from tests.support.looking import fails, status, stored
from tests.support.waiting import DEADLINE, until

HERE = "127.0.0.1:0"


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials(tmp_path_factory.mktemp("credentials"))


@contextmanager
def serving(
    folder: Path, endpoint: Endpoint, security: ChannelSecurity, limits: Limits | None = None
) -> Iterator[CoordinatorThread]:
    experiment = load(write_experiment(folder, HOSTILE))
    with (
        create_run(folder / "run", experiment, (experiment.task.name,)) as run,
        CoordinatorThread(run, endpoint, security, limits) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory, credentials: Credentials) -> Iterator[CoordinatorThread]:
    with serving(tmp_path_factory.mktemp("mutual"), credentials.mutual, credentials.of("alice")) as server:
        yield server


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorThread]:
    with serving(tmp_path_factory.mktemp("plain"), Endpoint(HERE), ChannelSecurity()) as server:
        yield server


@pytest.fixture(scope="module")
def alice(mutual: CoordinatorThread) -> Victim:
    """At work in the second round."""
    worker = HandWorker(mutual, "alice")
    for _ in range(HOSTILE["clients"]):
        done = worker.work()
        assert worker.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED
    replay = [part.SerializeToString() for part in done.messages()]
    return Victim(worker.id, worker.poll()[0].assignment.assignment_id, replay)


def as_bob(server: CoordinatorThread, credentials: Credentials) -> RawPeer:
    return RawPeer(server.address, server.task, credentials.of("bob"), "bob")


@pytest.mark.parametrize("name", ATTACKS)
def test_a_call_comes_to_nothing(
    mutual: CoordinatorThread, credentials: Credentials, alice: Victim, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def standing() -> tuple[object, ...]:
        now = status(mutual)
        return now.round, now.results, list(now.in_flight), list(now.refusals), stored(mutual)

    before = standing()
    bob = as_bob(mutual, credentials)
    ATTACKS[name](bob, alice)
    bob.close()
    assert standing() == before
    assert not [record for record in caplog.records if record.levelname != "INFO"]


def test_a_past_result_of_ones_own_counts_once(mutual: CoordinatorThread, alice: Victim) -> None:
    before = status(mutual)
    reply = mutual.stub.SubmitResult(iter(map(pb.ResultPart.FromString, alice.replay)), timeout=DEADLINE)
    assert reply.verdict == pb.SubmitReply.DUPLICATE
    assert status(mutual).bytes_up == before.bytes_up


# -- without a certificate or a token


def test_who_does_not_show_who_they_are_gets_no_call_through(
    mutual: CoordinatorThread, plain: CoordinatorThread, credentials: Credentials, tmp_path: Path
) -> None:
    stranger = Credentials(tmp_path)
    tls = {
        "plaintext on a TLS port": (mutual, ChannelSecurity()),
        "no certificate": (mutual, ChannelSecurity(credentials.authority)),
        "a certificate of another authority": (
            mutual,
            ChannelSecurity(replace(stranger.files("alice"), ca=credentials.authority.ca)),
        ),
        "TLS on a plaintext port": (plain, ChannelSecurity(TLSFiles(ca=credentials.authority.ca))),
    }
    for name, (server, security) in tls.items():
        peer = RawPeer(server.address, server.task, security, "alice")
        answer = peer.call("GetRun", b"")
        peer.close()
        assert isinstance(answer, tuple), name
        assert answer[0] is Code.UNAVAILABLE, name
        assert status(server).state == pb.RunStatus.RUNNING


def test_no_token_and_a_wrong_one(credentials: Credentials, tmp_path: Path) -> None:
    tokens = credentials.with_tokens
    known = credentials.new_token("carol")
    unknown = "the token is unknown, or was revoked"
    wanted = "a token is wanted: give --token-file, or LOTTERYFL_TOKEN in the environment"
    name, _, secret = known.rpartition(".")
    with serving(tmp_path, tokens, credentials.by_token(known)) as server:
        for token, reason in ((f"{name}.{'s' * 43}", unknown), (f"dave.{secret}", unknown), ("", wanted)):
            peer = RawPeer(server.address, server.task, credentials.by_token(token), "carol")
            assert peer.call("GetRun", b"") == (Code.UNAUTHENTICATED, reason)
            peer.close()
        assert status(server).workers == 0


# -- put aside


def test_who_is_put_aside_is_so_under_every_name_of_its_certificate(
    mutual: CoordinatorThread, credentials: Credentials, alice: Victim
) -> None:
    """And what its other processes hold goes back."""
    peers = [RawPeer(mutual.address, mutual.task, credentials.of("bob"), f"bob/{number}") for number in range(4)]
    idle, *_ = peers
    assert len(idle.worker().poll()) > 1
    for peer in peers[1:]:
        done = peer.worker().work()
        done.result.examples = 0
        assert peer.submit(part.SerializeToString() for part in done.messages()).verdict == pb.SubmitReply.REFUSED
    (refusals,) = status(mutual).refusals
    assert (refusals.worker, refusals.results, refusals.aside) == ("bob", 3, True)
    assert len(status(mutual).in_flight) == 1
    assert status(mutual).in_flight[0].endswith(" on alice")
    reason = (
        "worker bob is put aside for the rest of this run: 3 of its results were refused, the last for examples = 0.*"
    )
    again = RawPeer(mutual.address, mutual.task, credentials.of("bob"), "bob")
    for name in ("bob", "bob/0", "bob/new"):
        expect(again, Code.PERMISSION_DENIED, reason, "Register", register_as(name))
    poll = pb.FetchAssignmentRequest(worker_id=idle.id)
    expect(idle, Code.PERMISSION_DENIED, reason, "FetchAssignment", poll)
    for peer in (*peers, again):
        peer.close()


# -- what is no call


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_on_the_port_is_hung_up_on(mutual: CoordinatorThread, plain: CoordinatorThread, name: str) -> None:
    for server in (mutual, plain):
        say(server.address, GARBAGE[name])
        assert status(server).state == pb.RunStatus.RUNNING


def test_a_thousand_connections_at_once(mutual: CoordinatorThread) -> None:
    with many_connections(mutual.address) as connections:
        assert len(connections) == 1000
        assert status(mutual).state == pb.RunStatus.RUNNING


def test_connections_leave_open_files_for_the_run(tmp_path: Path) -> None:
    """Those beyond the limit are hung up on; whoever is connected already is served."""
    with serving(tmp_path, Endpoint(HERE), ChannelSecurity(), Limits(connections=10)) as server:
        assert status(server).state == pb.RunStatus.RUNNING
        connections = [connect(server.address) for _ in range(30)]
        assert all(hung_up(connection) for connection in connections[10:])
        worker = HandWorker(server)
        assert worker.submit(worker.work().messages()).verdict == pb.SubmitReply.ACCEPTED
        for connection in connections:
            connection.close()


# -- streams that stand still


def test_an_upload_that_stands_still_is_given_up(tmp_path: Path) -> None:
    """What has come of it is kept, and its sender may go on from there."""
    with serving(tmp_path, Endpoint(HERE), ChannelSecurity(), Limits(idle_seconds=2)) as server:
        peer = RawPeer(server.address, server.task, ChannelSecurity(), "slow")
        done = peer.worker().work()
        head, first, *_ = upload(done.result, payload_of(done.entries))
        answered = threading.Event()
        error = fails(lambda: next(peer.stream("SubmitResult", some_and_wait((head, first), answered))))
        answered.set()
        assert (error.code(), error.details()) == (Code.DEADLINE_EXCEEDED, "the call's messages come too slowly")
        find = pb.FindUploadRequest(worker_id=peer.id, assignment_id=done.result.assignment_id)
        until(lambda: server.stub.FindUpload(find, timeout=DEADLINE).received == CHUNK)
        assert [file for file in stored(server) if file.endswith(".part")] != []
        rest = (part.SerializeToString() for part in done.messages(offset=CHUNK))
        assert peer.submit(rest).verdict == pb.SubmitReply.ACCEPTED
        assert [file for file in stored(server) if file.endswith(".part")] == []
        peer.close()


def test_nothing_is_left_of_it_all(mutual: CoordinatorThread, plain: CoordinatorThread) -> None:
    for server in (mutual, plain):
        assert [str(problem) for group in verify(server.run.path).groups for problem in group.problems] == []
        assert [file for file in stored(server) if file.endswith(".part")] == []
