"""Every upload that must be refused is, in exactly these words, and nothing is left of it."""

import logging
import re
from collections.abc import Iterator

import pytest

from lotteryfl.common.experiment.experiment import load
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.setup import create_run
from tests.integration.hostile.forgery import payload_of, upload
from tests.integration.hostile.hostilerun import HOSTILE, write_experiment
from tests.integration.hostile.rawpeer import Code, RawPeer
from tests.integration.hostile.uploads import ATTACKS
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.handworker import HandWorker
from tests.support.looking import fails, status, stored


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorThread]:
    """A coordinator in the second round, when masks have holes; a single refusal puts aside, and is forgiven."""
    folder = tmp_path_factory.mktemp("uploads")
    experiment = load(write_experiment(folder, {**HOSTILE, "checks": {"max_refusals": 1}}))
    with create_run(folder / "run", experiment, (experiment.task.name,)) as run, CoordinatorThread(run) as server:
        worker = HandWorker(server, "honest")
        for _ in range(experiment.clients):
            assert worker.submit(worker.work().messages()).verdict == pb.SubmitReply.ACCEPTED
        yield server


def peer_of(server: CoordinatorThread, name: str) -> RawPeer:
    return RawPeer(server.address, server.task, ChannelSecurity(), name)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_upload_is_refused(served: CoordinatorThread, name: str, caplog: pytest.LogCaptureFixture) -> None:
    attack, reason = ATTACKS[name]
    before = stored(served)
    peer = peer_of(served, name)
    done = peer.worker().work()
    reply = peer.submit(attack(done))
    assert reply.verdict == pb.SubmitReply.REFUSED
    assert re.fullmatch(reason, reply.reason), reply.reason
    assert len(reply.reason) < 1000
    error = fails(
        lambda: list(peer.stream("FetchAssignment", [pb.FetchAssignmentRequest(worker_id=peer.id).SerializeToString()]))
    )
    assert error.code() is Code.PERMISSION_DENIED
    assert (stored(served), status(served).in_flight) == (before, [])
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    peer.close()


def test_what_all_attacks_are_made_of_would_be_accepted(served: CoordinatorThread) -> None:
    peer = peer_of(served, "almost hostile")
    done = peer.worker().work()
    reply = peer.submit(upload(done.result, payload_of(done.entries)))
    assert reply.verdict == pb.SubmitReply.ACCEPTED, reply.reason
    peer.close()
