"""A strategy's own tensors over real calls: to processes that die, and to a client that changes them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lotteryfl.common.experiment.experiment import load
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.strategies import STRATEGIES, add_strategies
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.damage import problems
from tests.support.handworker import HandWorker
from tests.support.runs import GATED_TASK, Expect, Start, Write, assert_same_bits
from tests.support.strategytensors import Holding

pytestmark = pytest.mark.usefixtures("own_strategies")

OWN = """
import torch
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.server.strategies.lotteryfl import LotteryFL


class Carrying(LotteryFL):
    name = "carrying"

    def tensors(self, table):
        return (
            StrategyTensor("control", "shared", like="parameters", fill=0.5),
            StrategyTensor("moment", "shared", like="prunable", combine="kept", masked=True),
            StrategyTensor("number", "shared", combine="sum", fill=1),
            StrategyTensor("mine", "own", like="prunable", masked=True, fill=3),
            StrategyTensor("seen", "own", (5,), dtype=torch.bool, fill=1),
            StrategyTensor("votes", "up", like="prunable", dtype=torch.bool),
        )

    def plan(self, round_, client):
        plan = super().plan(round_, client)
        plan.sends.append("votes")
        return plan
"""


def test_one_process_and_workers_that_were_killed_and_became_more_give_the_same_bits(
    tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    own, path = tmp_path / "carrying.py", write(strategy={"name": "carrying"})
    own.write_text(OWN)
    add_strategies(str(own))
    expected = expect(path)
    died = {"LOTTERYFL_FAULTS": "result-recorded:die@5"}
    killed = start("run", path, "--workers", 1, "--run-dir", "run", "--strategy", own, env=died)
    assert killed.exit_code() != 0
    again = start("run", "run", "--task", GATED_TASK, "--workers", 3, "--strategy", own)
    assert again.exit_code() == 0, again.stderr
    assert_same_bits(tmp_path / "run", expected)
    assert problems(tmp_path / "run") == []
    model = open_file(tmp_path / "run" / "models" / "round-0003.safetensors")
    assert model["number"].item() == 27
    assert not {name for name in model if name.startswith("votes")}


def begun(worker: HandWorker) -> tuple[list[pb.AssignmentPart], dict[str, Tensor]]:
    """Fetch an assignment, and what goes down with it."""
    parts = worker.poll()
    return parts, parse(bytearray().join(part.chunk for part in parts[1:-1]), "payload")


def test_what_a_client_changes_goes_where_it_is_said_to(tmp_path: Path, write: Write) -> None:
    """And a worker that starts from a base finds in it what all share."""
    STRATEGIES["holding"] = Holding
    experiment = load(write(strategy={"name": "holding"}, clients_per_round=4))
    with create_run(tmp_path / "run", experiment, (experiment.task.name,)) as run, CoordinatorThread(run) as server:
        worker = HandWorker(server)
        for _ in range(4):
            parts, down = begun(worker)
            assert parts[0].assignment.base_digest
            assert down == {}
            done = worker.do(parts)
            client = parts[0].assignment.client
            assert done.entries["dense/control:0.bias"].tolist() == [0] * len(done.entries["dense/control:0.bias"])
            assert done.entries["bits/seen"].tolist() == [255, 1]
            done.entries["dense/control:0.bias"].fill_(4)
            done.entries["dense/count"].fill_(client)
            done.entries["bits/seen"].copy_(torch.tensor([client, 0]))
            done.entries["kept/mine:0.weight"].fill_(client)
            assert worker.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED
        refused = ""
        for _ in range(5):
            parts, down = begun(worker)
            client = parts[0].assignment.client
            assert down["dense/control:0.bias"].unique().tolist() == [4]
            assert down["dense/count"].item() == 0 + 1 + 2 + 3
            assert down["bits/seen"].tolist() == [client, 0]
            assert down["kept/mine:0.weight"].unique().tolist() == [client]
            assert not {key for key in down if key.split("/")[1].startswith(("scores", "votes", "norm"))}
            done = worker.do(parts)
            assert "dense/scores:0.weight" in done.entries
            assert "dense/norm" not in done.entries
            if not refused:
                del done.entries["dense/scores:0.weight"]
                refused = worker.submit(done.messages()).reason
                continue
            assert worker.submit(done.messages()).verdict == pb.SubmitReply.ACCEPTED
        assert refused == "dense/scores:0.weight: missing"
