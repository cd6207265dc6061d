"""Tiny runs played to their ends, and what comes of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lotteryfl.common.names import Digest
from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.store.runfiles import model_file
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.base import Strategy
from tests.support.bench import Bench, tiny_experiment

W = "0.weight"


def settings(name: str, **strategy: Any) -> dict[str, Any]:
    return {"strategy": {"name": name, **strategy}, "clients": 3, "clients_per_round": 3}


def create(name: str, **strategy: Any) -> Strategy:
    return create_strategy(tiny_experiment(**settings(name, **strategy)))


def play(bench: Bench, rounds: int = 1) -> Bench:
    for _ in range(rounds):
        bench.do_all(bench.register())
        bench.commit()
    return bench


def ticket(bench: Bench, client: int) -> dict[str, Tensor]:
    """What a client last returned, whole."""
    row = bench.run.database.clients()[client]
    own = bench.coordinator.strategy.owns_unkept
    return bench.run.wire.unpack(open_file(bench.path / row.ticket), bench.run.load_masks(row.mask), own=own)


def model(bench: Bench, round_: int | None = None) -> dict[str, Tensor]:
    return open_file(bench.path / model_file(bench.run.model_round if round_ is None else round_))


def assigned(bench: Bench, client: int) -> dict[str, Tensor]:
    """What a client's next work begins from, whole."""
    work = bench.take(bench.register(f"of {client}", clients={client}))
    entries = parse(bytearray().join(assignment_payload(bench.run, work)), "payload")
    masks = bench.run.load_masks(Digest(work.assignment.mask_digest))
    bench.coordinator.take_back_all("only looked at")
    return bench.run.wire.unpack(entries, masks, own=work.row.plan.owns_unkept)


def mask_of(bench: Bench, client: int, name: str = W) -> Tensor:
    masks = bench.run.load_masks(bench.run.database.clients()[client].mask)
    shape = bench.run.table[name].shape
    return unpack(masks[name], shape) if name in masks else torch.ones(shape, dtype=torch.bool)


def accuracies(*values: float) -> Callable[[pb.Result], None]:
    """Let clients 0, 1, … claim these validation accuracies."""

    def claim(result: pb.Result) -> None:
        client = int(result.assignment_id.split("-")[1][1:])
        result.metrics.validation.accuracy = values[client]

    return claim


def play_claiming(bench: Bench, claim: Callable[[pb.Result], None]) -> None:
    worker = bench.register()
    while work := bench.coordinator.lease(worker):
        answer = bench.do(work)
        claim(answer.result)
        assert bench.submit(worker, answer).verdict == pb.SubmitReply.ACCEPTED
    bench.commit()
