"""A shared tensor that no client sends back: what `after_round` says of it goes down."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.ticket import export_ticket
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.base import RoundOutcome
from lotteryfl.server.strategies.fedavg import FedAvg
from tests.support.bench import Bench, tiny_experiment
from tests.support.damage import problems

Drive = Callable[..., Bench]


class Telling(FedAvg):
    """Tells its clients twice what it told them before, but in the second round."""

    name = "telling"

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        del table
        return (StrategyTensor("told", "shared", (2,), combine="none", fill=1.5),)

    def after_round(self, outcome: RoundOutcome) -> Mapping[str, Tensor]:
        assert torch.equal(outcome.aggregated["told"], outcome.before["told"])
        return {} if outcome.round == 2 else {"told": 2 * outcome.before["told"]}


@pytest.fixture
def bench(own_strategies: None, drive: Drive) -> Bench:
    STRATEGIES["telling"] = Telling
    return drive(tiny_experiment(rounds=3, strategy={"name": "telling"}))


def test_it_goes_down_as_the_strategy_said_and_nothing_of_it_comes_back(bench: Bench, tmp_path: Path) -> None:
    for told in (1.5, 3, 3):
        worker = bench.restart().register()
        while work := bench.coordinator.lease(worker):
            down = parse(bytearray().join(assignment_payload(bench.run, work)), "payload")
            assert down["dense/told"].tolist() == [told] * 2
            answer = bench.do(work)
            assert "dense/told" not in answer.entries
            assert bench.submit(worker, answer).verdict == pb.SubmitReply.ACCEPTED
        bench.commit()
        assert problems(bench.path) == []
        bench.incarnation += 1
    assert open_file(bench.run.model_path(3))["told"].tolist() == [6] * 2
    export_ticket(bench.run, 0, tmp_path / "ticket.safetensors")
    assert "told" not in open_file(tmp_path / "ticket.safetensors")


def test_a_result_that_holds_it_is_refused(bench: Bench) -> None:
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    answer.entries["dense/told"] = torch.zeros(2)
    reply = bench.submit(worker, answer)
    assert (reply.verdict, reply.reason.partition(":")[0]) == (pb.SubmitReply.REFUSED, "'dense/told'")
