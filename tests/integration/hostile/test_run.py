"""All attacks of this folder at once on a run of real processes over mutual TLS: it ends as if there had been none."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest

from lotteryfl.common.experiment.settings import MIN_LEASE_SECONDS
from lotteryfl.common.security.identity import Identity, Role
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.security.certificates import Authority
from lotteryfl.server.store.rundb.database import Database
from tests.integration.hostile.callers import ATTACKS as CALLS
from tests.integration.hostile.callers import Victim, take
from tests.integration.hostile.hostilerun import HOSTILE, TASK, write_experiment
from tests.integration.hostile.rawpeer import Code, RawPeer
from tests.integration.hostile.sockets import GARBAGE, many_connections, say, some_and_wait
from tests.integration.hostile.uploads import ATTACKS as UPLOADS
from tests.support.credentials import Credentials
from tests.support.processes import Gate
from tests.support.runs import Expect, Start, read_summary
from tests.support.waiting import DEADLINE

MOST_GROWTH = 256 << 20
"""Bytes by which the coordinator's memory may grow under it all: heaps of its threads, and a thousand connections."""

HONEST = ("alice", "bob")


class Hostiles:
    """Peers with certificates of their own, as many as are wanted."""

    def __init__(self, folder: Path, credentials: Credentials) -> None:
        self._credentials = credentials
        self._authority = Authority(folder / "certs")
        self._stack = ExitStack()
        self.address = ""

    def peer(self, name: str) -> RawPeer:
        self._authority.issue(Identity(name, Role.WORKER), days=1)
        peer = RawPeer(self.address, str(TASK), self._credentials.of(name), name)
        self._stack.callback(peer.close)
        return peer

    def stranger(self, security: ChannelSecurity) -> RawPeer:
        peer = RawPeer(self.address, str(TASK), security, "stranger")
        self._stack.callback(peer.close)
        return peer

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path)


@pytest.fixture
def hostiles(tmp_path: Path, credentials: Credentials) -> Iterator[Hostiles]:
    peers = Hostiles(tmp_path, credentials)
    yield peers
    peers.close()


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) << 10


def first_round(peer: RawPeer) -> list[bytes]:
    """Do a whole round's work, and leave; return one of its results as it was sent."""
    worker = peer.worker()
    for _ in range(HOSTILE["clients"]):
        done = worker.work()
        assert worker.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED
    peer.stub.Leave(pb.LeaveRequest(worker_id=worker.id, told_to_stop=True), timeout=DEADLINE)
    return [part.SerializeToString() for part in done.messages()]


def send_three_times(peer: RawPeer, name: str) -> None:
    """Send a result that is refused until nothing more is taken from this peer."""
    spoil, reason = UPLOADS[name]
    worker = peer.worker()
    for _ in range(3):
        reply = peer.submit(spoil(worker.work()))
        assert reply.verdict == pb.SubmitReply.REFUSED, name
        assert re.fullmatch(reason, reply.reason), reply.reason
    answer = peer.call("FetchAssignment", pb.FetchAssignmentRequest(worker_id=peer.id))
    assert isinstance(answer, tuple), name
    assert answer[0] is Code.PERMISSION_DENIED, name
    assert answer[1].startswith(f"worker {peer.name} is put aside for the rest of this run")


def victim_of(run: Path, replay: list[bytes]) -> Victim:
    """Look up, as no attacker could, who is at work on what."""
    database = Database(run / "run.db", read_only=True)
    held = next(row for row in database.assignments(2) if row.worker.startswith(HONEST) and row.state == "leased")
    database.close()
    return Victim(held.worker, str(held.standing.id), replay)


@pytest.mark.slow
def test_a_run_among_hostile_peers_ends_with_the_same_bits(
    tmp_path: Path, start: Start, gate: Gate, expect: Expect, credentials: Credentials, hostiles: Hostiles
) -> None:
    """The honest workers stand at the gate while everything is tried, and work while what takes time goes on."""
    lease = 4 * MIN_LEASE_SECONDS
    path = write_experiment(tmp_path, HOSTILE | {"round": {"lease": lease, "max_attempts": 10}})
    coordinator = start(
        *("--verbose", "serve", path, "--listen", "127.0.0.1:0", "--run-dir", "run"),
        *credentials.options("coordinator"),
    )
    hostiles.address = coordinator.said(r"listening at (\S+)")[1]
    replay = first_round(hostiles.peer("saint"))
    workers = [
        start("work", "--coordinator", hostiles.address, "--task", TASK, *credentials.options(name), env=gate.env)
        for name in HONEST
    ]
    for _ in workers:
        gate.arrival()
    before = resident(coordinator.pid)

    for number, name in enumerate(UPLOADS):
        send_three_times(hostiles.peer(f"sender-{number}"), name)
    victim = victim_of(tmp_path / "run", replay)
    caller = hostiles.peer("caller")
    for call in CALLS.values():
        call(caller, victim)
    for words in GARBAGE.values():
        say(hostiles.address, words)
    for security in (ChannelSecurity(), ChannelSecurity(credentials.authority)):
        answer = hostiles.stranger(security).call("GetRun", b"")
        assert isinstance(answer, tuple)
        assert answer[0] is Code.UNAVAILABLE

    still = threading.Event()
    slow = hostiles.peer("slow")
    head = pb.Result(worker_id=slow.id, assignment_id=take(slow).assignment_id, payload=pb.PayloadHeader(size=1000))
    standing = slow.stream("SubmitResult", some_and_wait([pb.ResultPart(result=head).SerializeToString()], still))
    with many_connections(hostiles.address):
        growth = resident(coordinator.pid) - before
        gate.open()
        for process in (*workers, coordinator):
            assert process.exit_code() == 0, process.stderr
    still.set()
    with suppress(grpc.RpcError):
        list(standing)

    assert growth < MOST_GROWTH
    for process in (*workers, coordinator):
        assert "Traceback" not in process.stderr, process.stderr
    found, expected = read_summary(tmp_path / "run"), expect(path)
    for key in ("model_sha256", "tickets_sha256"):
        assert found[key] == expected[key]
    assert len(found["refused"]["aside"]) == len(UPLOADS)
    verified = start("verify", "run")
    assert verified.exit_code() == 0, verified.stdout
    assert not [file for file in (tmp_path / "run").rglob("*") if file.name.endswith(".part")]
