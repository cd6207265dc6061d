"""What is frozen travels once: low-rank layers on a backbone that does not train, through processes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.wire.payload import plain_name
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.verify import verify
from lotteryfl.server.results.view import open_run
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.handworker import HandWorker
from tests.support.lowrank_task import model
from tests.support.paths import ROOT
from tests.support.runs import Coordinate, Expect, Start, Write, assert_same_bits

LOW_RANK: dict[str, Any] = {
    "seed": 4,
    "rounds": 3,
    "clients": 3,
    "clients_per_round": 3,
    "task": {"name": str(ROOT / "tests" / "support" / "lowrank_task.py")},
    "training": {"epochs": 1, "batch_size": 8, "lr": 0.05},
    "strategy": {"name": "lotteryfl", "prune_rate": 0.3, "target_density": 0.5, "accuracy_threshold": 0.0},
}
TRAINED = {"0.hidden.down.weight", "0.hidden.up.weight", "0.deep.down.weight", "0.deep.up.weight", "1.weight", "1.bias"}


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_rounds_carry_what_trains_alone(
    workers: int, tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    path = write(LOW_RANK)
    process = start("run", path, "--workers", workers, "--run-dir", "run", "--task", LOW_RANK["task"]["name"])
    assert process.exit_code() == 0, process.stderr
    assert_same_bits(tmp_path / "run", expect(path))
    assert verify(tmp_path / "run").problems == 0
    with RunDirectory(tmp_path / "run", read_only=True) as run:
        assert {spec.name for spec in run.table} == TRAINED
        assert set(open_file(run.model_path(0))) == {spec.name for spec in run.model_table}
        assert set(open_file(run.model_path(3))) == TRAINED
        moving, whole = run.table.nbytes, run.model_table.nbytes
        rows = [row for round_ in range(1, 5) for row in run.database.assignments(round_)]
        assert all(
            set(map(plain_name, open_file(run.tensor_path(row.ticket)))) <= TRAINED | {""}
            for row in run.database.clients()
        )
    assert moving < whole / 20
    with open_run(tmp_path / "run") as view:
        traffic = view.assignments()
        assert len(rows) == len(traffic) == 12
        assert traffic["bytes_up"].max() < moving + 2000
        assert traffic["bytes_down"].max() < moving + 2000
        assert 0.5 <= view.rounds()["density"].iloc[-1] < 0.7, "what trains has been pruned"
        model().load_state_dict(view.ticket(1))


def test_exports_and_fetched_models_are_whole(
    tmp_path: Path, start: Start, write: Write, coordinate: Coordinate
) -> None:
    server = coordinate(write(LOW_RANK, rounds=1))
    replies = HandWorker(server).finish()
    for _ in range(4):  # round 1, and one of the three of the final round: the run is not over
        assert next(replies).verdict == pb.SubmitReply.ACCEPTED
    sent = bytearray(b"".join(part.chunk for part in server.stub.FetchModel(pb.FetchModelRequest(), timeout=5)))
    fetched, initial = parse(sent, "model"), open_file(server.run.model_path(0))
    trained = open_file(server.run.model_path(1))
    for name in fetched:
        assert torch.equal(fetched[name], (trained if name in TRAINED else initial)[name])
    network = model()
    network.load_state_dict(fetched)
    assert {reply.verdict for reply in replies} == {pb.SubmitReply.ACCEPTED}
    assert server.ended() == ""
    out = tmp_path / "ticket.safetensors"
    process = start("export", server.run.path, "--client", 0, "--out", out)
    assert process.exit_code() == 0, process.stderr
    exported = open_file(out)
    network.load_state_dict(exported)
    assert torch.equal(exported["0.deep.base.weight"], initial["0.deep.base.weight"])
