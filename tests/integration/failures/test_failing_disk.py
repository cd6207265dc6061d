"""A disk that fails when a round is committed, or work is sent, ends the coordinator in a word, and damages nothing."""

import grpc
import pytest
import torch

from lotteryfl.common import faults
from lotteryfl.common.tasks import load_task
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import silent
from tests.support.handworker import HandWorker
from tests.support.runs import Coordinate, Expect, Write


@pytest.mark.parametrize("point", ["models-written", "round-committing"])
def test_a_full_disk_at_the_end_of_a_round(
    point: str, coordinate: Coordinate, write: Write, expect: Expect, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write()
    server = coordinate(path)
    monkeypatch.setattr(faults, "_plan", faults.Plan([faults.Fault(point, "raise", 1)]))
    worker = HandWorker(server)
    for _ in range(3):
        assert worker.submit(worker.work().messages()).verdict == pb.SubmitReply.ACCEPTED
    assert server.ended().startswith(
        f"{server.run.path}: [Errno 28] No space left on device: '{point}'; nothing that was"
    )
    server.run.close()
    with RunDirectory(server.run.path) as run:
        assert run.model_round == 0
        assert len(run.database.results(1)) == 3
        task = load_task(run.experiment, (run.experiment.task.name,))
        Simulation(run, task, torch.device("cpu")).run(silent)
        assert summarise(run)["tickets_sha256"] == expect(path)["tickets_sha256"]
        assert summarise(run)["model_sha256"] == expect(path)["model_sha256"]


@pytest.mark.parametrize("point", ["lease-writing", "chunk-last-sent"])
def test_a_disk_that_fails_when_work_is_given_out(
    point: str, coordinate: Coordinate, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker hears that the coordinator is away, and so waits for it to come back."""
    server = coordinate(write())
    worker = HandWorker(server)
    monkeypatch.setattr(faults, "_plan", faults.Plan([faults.Fault(point, "raise", 1)]))
    with pytest.raises(grpc.RpcError) as failure:
        worker.poll()
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert f"{server.run.path}: [Errno 28] No space left on device: '{point}'; nothing that was" in server.ended()
