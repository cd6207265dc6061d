"""A strategy with tensors of its own of every kind, on the tiny task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.lotteryfl import LotteryFL
from tests.support.bench import Answer, Bench, tiny_experiment

DECLARED = (
    StrategyTensor("control", "shared", like="parameters"),
    StrategyTensor("count", "shared", combine="sum", fill=1.5),
    StrategyTensor("moment", "shared", like="prunable", combine="kept", masked=True, fill=2.0),
    StrategyTensor("mine", "own", like="prunable", masked=True),
    StrategyTensor("seen", "own", (3, 3), dtype=torch.bool, fill=1.0),
    StrategyTensor("scores", "up", like="prunable", fill=0.5),
    StrategyTensor("votes", "up", like="prunable", dtype=torch.bool),
    StrategyTensor("norm", "up", (2,), combine="sum", dtype=torch.float64),
)


class Holding(LotteryFL):
    """LotteryFL, whose clients send scores in every round, and in the first votes and norms too."""

    name = "holding"
    seen: list[dict[str, Tensor]]
    """What `next_masks` was given."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self.seen = []

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        del table
        return DECLARED

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        plan = super().plan(round_, client)
        plan.sends.extend(["scores"] if round_ > 1 else ["scores:0.weight", "scores:2.*", "votes", "n*m"])
        return plan

    def next_masks(self, round_: int, table: TensorTable, aggregated: Mapping[str, Tensor]) -> Masks | None:
        self.seen.append({name: tensor.clone() for name, tensor in aggregated.items()})
        assert not table.added
        return super().next_masks(round_, table, aggregated)


def holding(**changes: Any) -> Experiment:
    """Return the tiny experiment with `Holding`."""
    return tiny_experiment(**{"strategy": {"name": "holding"}, **changes})


def play(bench: Bench, change: Callable[[int, Answer], object]) -> dict[int, Answer]:
    """Do a round whose clients change what they return."""
    worker, answers = bench.register(), {}
    while work := bench.coordinator.lease(worker):
        client, answer = work.assignment.client, bench.do(work)
        change(client, answer)
        assert bench.submit(worker, answer).verdict == pb.SubmitReply.ACCEPTED
        answers[client] = answer
    bench.commit()
    return answers
