"""Two rounds of full batches, played over gRPC by hand."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from lotteryfl.common.tensors.file import open_file
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.damage import problems
from tests.support.handworker import HandWorker
from tests.support.papers import LR, SEED, STEPS, TASK, Played, copied
from tests.support.runs import Coordinate, Write


@pytest.fixture
def play(coordinate: Coordinate, write: Write) -> Callable[..., Played]:
    """Play two rounds of full batches over gRPC, or up to a later one of more."""

    def play_(strategy: Mapping[str, Any], clients: int = 3, last: int = 2, **changes: Any) -> Played:
        path = write(
            {"seed": SEED, "rounds": 2, "clients": clients, "clients_per_round": 3, "task": {"name": str(TASK)}},
            training={"epochs": STEPS, "batch_size": 999, "lr": LR, "momentum": 0.0},
            strategy=strategy,
            round={"lease": 600.0},
            **changes,
        )
        server = coordinate(path)
        worker, run = HandWorker(server), server.run
        models = [copied(open_file(run.model_path(0)))]
        while (work := worker.poll())[0].assignment.round <= last:
            if work[0].assignment.round > len(models):
                models.append(copied(open_file(run.model_path(run.model_round))))
            assert worker.submit(worker.do(work).messages()).verdict == pb.SubmitReply.ACCEPTED
        models.append(copied(open_file(run.model_path(last))))
        plans = {row.client: row.plan for row in run.database.assignments(last)}
        sent = {}
        for row in run.database.clients():
            if row.ticket:
                wire = run.wire.of_result(plans[row.client]) if row.client in plans else run.wire
                sent[row.client] = copied(wire.unpack(open_file(run.path / row.ticket), run.load_masks(row.mask)))
        assert problems(run.path) == []
        return Played(run, models, sent)

    return play_
