"""Tensors of a strategy's own through rounds: where each comes from, and what it comes to."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lotteryfl.common.names import Digest
from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.wire.payload import KEPT
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.rounds.work import Work
from lotteryfl.server.store.runfiles import come_up_file
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.feddst import FedDST
from tests.support.bench import Answer, Bench, simulated, tiny_experiment
from tests.support.damage import problems
from tests.support.strategytensors import Holding, holding, play

Drive = Callable[..., Bench]

W = "0.weight"


@pytest.fixture(autouse=True)
def _holding(own_strategies: None) -> None:
    STRATEGIES["holding"] = Holding


def begun(bench: Bench) -> Iterator[tuple[Work, dict[str, Tensor]]]:
    """Do what the open round has; yield each work before, and what went down with it."""
    worker = bench.register()
    while work := bench.coordinator.lease(worker):
        yield work, sent_down(bench, work)
        assert bench.submit(worker, bench.do(work)).verdict == pb.SubmitReply.ACCEPTED


def sent_down(bench: Bench, work: Work) -> dict[str, Tensor]:
    return parse(bytearray().join(assignment_payload(bench.run, work)), "payload")


def fill_all(client: int, answer: Answer) -> None:
    """Client k says k + 1 everywhere, and of bool that it is even."""
    for key, tensor in answer.entries.items():
        kind, name = key.split("/", 1)
        if kind == "bits":
            tensor.zero_()
            if client % 2 == 0:
                tensor.fill_(255)
                tensor[-1] = 1 if name == "seen" else 255 if name.endswith("0.weight") else 15
        elif ":" in name or name in ("count", "norm"):
            tensor.fill_(client + 1)


def strategy(bench: Bench) -> Holding:
    assert isinstance(bench.coordinator.strategy, Holding)
    return bench.coordinator.strategy


# ---- rounds


def test_what_is_not_changed_goes_round_as_it_was(drive: Drive) -> None:
    """Each begins as it is filled, and nothing that only comes up goes down."""
    bench = drive(holding())
    down = sent_down(bench, bench.take(bench.register()))
    assert down["dense/count"].item() == 1.5
    assert down["dense/moment:0.weight"].unique().tolist() == [2]
    assert down["bits/seen"].tolist() == [255, 1]
    assert not [key for key in down if key.split("/")[1].startswith(("scores", "votes", "norm"))]
    bench.coordinator.take_back_all("only looked at")
    answers = play(bench, lambda _client, _answer: None)
    for answer in answers.values():
        assert set(answer.entries) >= {"dense/scores:0.weight", "dense/scores:2.weight", "bits/votes:2.weight"}
        assert answer.entries["dense/norm"].dtype is torch.float64
        assert answer.entries["kept/moment:0.weight"].unique().tolist() == [2]
    (came_to,) = strategy(bench).seen
    assert came_to["scores:0.weight"].unique().tolist() == [0.5]
    assert came_to["count"].item() == 4.5
    assert not {name for name in came_to if name.startswith(("mine", "seen"))}
    assert problems(bench.path) == []


def test_nothing_is_left_of_what_only_came_up(drive: Drive) -> None:
    """Also where its round was killed while it was concluded."""
    bench = drive(holding())
    bench.do_all(bench.register())
    (bench.path / come_up_file(1)).write_bytes(b"half")
    assert bench.restart().files("models") == {"round-0000.safetensors"}
    bench.commit()
    assert bench.files("models") == {"round-0000.safetensors", "round-0001.safetensors"}


def test_shared_ones_are_put_together_and_sent_down_under_the_mask(drive: Drive) -> None:
    bench = drive(holding())
    answers = play(bench, fill_all)
    shares = {client: answer.result.examples for client, answer in answers.items()}
    mean = sum((k + 1) * n for k, n in shares.items()) / sum(shares.values())
    model = open_file(bench.run.model_path(1))
    assert model["control:0.bias"].tolist() == pytest.approx([mean] * 12)
    assert model["count"].item() == sum(client + 1 for client in shares)
    masks = {client: bench.run.load_masks(Digest(answer.result.mask_digest)) for client, answer in answers.items()}
    keeps = {client: unpack(each[W], (12, 6)) for client, each in masks.items()}
    weights = torch.stack([keeps[client] * shares[client] for client in shares]).double()
    values = torch.tensor([client + 1.0 for client in shares])[:, None, None]
    kept = torch.where(weights.sum(0) > 0, (weights * values).sum(0) / weights.sum(0), 2.0)
    assert torch.allclose(model["moment:0.weight"].double(), kept)
    (came_to,) = strategy(bench).seen
    assert came_to["scores:2.weight"].flatten()[0].item() == pytest.approx(mean)
    assert came_to["norm"].tolist() == [sum(client + 1 for client in shares)] * 2
    even = sum(client % 2 == 0 for client in shares) / 3
    assert came_to["votes:0.weight"].dtype is torch.float32
    assert came_to["votes:0.weight"].unique().tolist() == pytest.approx([even])
    for work, down in begun(bench):
        assert torch.equal(down["dense/control:0.bias"], model["control:0.bias"])
        mask = bench.run.load_masks(work.row.mask)
        if W in mask:
            assert torch.equal(down["kept/moment:0.weight"], model["moment:0.weight"][unpack(mask[W], (12, 6))])


def test_own_ones_come_back_to_their_client_and_to_nobody_else(drive: Drive) -> None:
    """Also after the whole has been killed."""
    bench = drive(holding(rounds=3))
    for _ in range(2):
        answers = play(bench, fill_all)
    tickets = {row.client: row.ticket for row in bench.run.database.clients()}
    bench.restart()
    looked_at = 0
    for work, down in begun(bench):
        client = work.assignment.client
        if not tickets[client]:
            assert down["bits/seen"].tolist() == [255, 1]
            assert not down["dense/mine:0.weight"].any()
            continue
        looked_at += client in answers
        mine = down["kept/mine:0.weight"]
        assert mine.unique().tolist() == [client + 1]
        assert len(mine) == len(down["kept/0.weight"])
        assert down["bits/seen"].tolist() == ([255, 1] if client % 2 == 0 else [0, 0])
    assert looked_at
    assert not open_file(bench.run.model_path(2))["mine:0.weight"].any()


def test_the_same_bits_by_hand_killed_and_in_one_process(drive: Drive, tmp_path: Path) -> None:
    with simulated(tmp_path / "simulated", holding(rounds=3)) as run:
        expected = run.database.get("model_sha256"), run.tickets_sha256(), "finished"
        write_summary(run)
    killed = drive(holding(rounds=3), name="killed")
    worker = killed.register()
    killed.submit(worker, killed.do(killed.take(worker)))
    killed.restart().finish()
    assert drive(holding(rounds=3)).finish().bits() == killed.bits() == expected
    assert problems(tmp_path / "simulated") == []


def test_a_base_has_the_shared_ones_and_own_ones_that_are_nobodys_yet(drive: Drive) -> None:
    """The bits are those of who was sent the values; and who has own ones gets no base."""
    by_base = drive(holding(), broadcasts=True)
    worker, bases = by_base.register(), 0
    for _ in (1, 2):
        while work := by_base.coordinator.lease(worker):
            assert not (work.row.own and work.assignment.base_digest)
            assert bool(sent_down(by_base, work)) != bool(work.assignment.base_digest)
            bases += bool(work.assignment.base_digest)
            by_base.submit(worker, by_base.do(work))
        by_base.commit()
    assert bases >= 3
    assert by_base.finish().bits() == drive(holding(), name="values").finish().bits()


def test_all_that_is_sent_is_counted(drive: Drive, tmp_path: Path) -> None:
    def bytes_of(name: str) -> tuple[int, int]:
        with simulated(tmp_path / name, tiny_experiment(strategy={"name": name})) as run:
            rows = run.database.select("SELECT bytes_down, bytes_up FROM assignments WHERE round = 1").fetchall()
        return sum(down for down, _ in rows), sum(up for _, up in rows)

    (down, up), (down_with, up_with) = bytes_of("lotteryfl"), bytes_of("holding")
    values = 4 * (123 + 1 + 108 + 108) + 2  # all dense in the first round
    assert down_with - down >= 3 * values
    assert up_with - up >= 3 * (4 * (123 + 1 + 108) + 2 + 9 + 5 + 16)


# ---- results


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda e: e.pop("dense/scores:0.weight"), "dense/scores:0.weight: missing"),
        (lambda e: e.pop("bits/votes:0.weight"), "bits/votes:0.weight: missing"),
        (lambda e: e.pop("dense/control:0.bias"), "dense/control:0.bias: missing"),
        (lambda e: e.pop("kept/mine:0.weight"), "kept/mine:0.weight: missing"),
        (lambda e: e.update({"dense/other": torch.ones(1)}), "'dense/other': unexpected"),
        (lambda e: e.update({"bits/seen": torch.zeros(3, dtype=torch.uint8)}), "bits/seen: torch.uint8 of shape [3]"),
        (lambda e: e["bits/seen"].fill_(255), "bits/seen: last byte 0xff: bits from 1 on must be zero in 9 elements"),
        (lambda e: e["dense/count"].fill_(torch.nan), "dense/count: value nan at flat index 0, expected finite"),
        (lambda e: e["dense/norm"].fill_(torch.inf), "dense/norm: value inf at flat index 0, expected finite"),
        (
            lambda e: e.update({"kept/mine:0.weight": torch.ones(72)}),
            "kept/mine:0.weight: torch.float32 of shape [72], expected torch.float32 of shape [",
        ),
        (
            lambda e: e.update({"dense/moment:0.weight": torch.ones(12, 6)}),
            "'dense/moment:0.weight': unexpected",
        ),
    ],
)
def test_a_result_with_others_is_refused(
    drive: Drive, spoil: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    bench = drive(holding())
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    assert KEPT + W in answer.entries
    spoil(answer.entries)
    reply = bench.submit(worker, answer)
    assert (reply.verdict, reply.reason[: len(message)]) == (pb.SubmitReply.REFUSED, message)


def test_what_was_not_asked_for_is_refused(drive: Drive) -> None:
    bench = drive(holding())
    play(bench, fill_all)
    worker = bench.register()
    answer = bench.do(bench.take(worker))
    answer.entries["dense/norm"] = torch.ones(2, dtype=torch.float64)
    reply = bench.submit(worker, answer)
    assert reply.verdict == pb.SubmitReply.REFUSED
    assert "'dense/norm': unexpected" in reply.reason


@pytest.mark.parametrize("on_large_update", ["refuse", "clip"])
def test_how_far_they_move_is_bounded_by_nothing(drive: Drive, on_large_update: str) -> None:
    """The bound is of the model's update; theirs are of other units."""
    bench = drive(holding(checks={"max_update_norm": 5.0, "on_large_update": on_large_update}))

    def far(_client: int, answer: Answer) -> None:
        answer.entries["dense/control:0.bias"].fill_(1e6)

    play(bench, far)
    assert open_file(bench.run.model_path(1))["control:0.bias"].tolist() == [1e6] * 12


def test_the_servers_optimizer_makes_steps_of_the_model_alone(drive: Drive) -> None:
    bench = drive(holding(server={"optimizer": "sgd", "lr": 0.5, "momentum": 0.9}))
    play(bench, lambda _client, answer: answer.entries["dense/control:0.bias"].fill_(3))
    assert open_file(bench.run.model_path(1))["control:0.bias"].tolist() == [3] * 12
    state = open_file(bench.run.path / "models/optimizer-0001.safetensors")
    assert {name.split("/")[0] for name in state} == {"0.bias", W, "2.bias", "2.weight"}


# ---- masks that all share


class Exchanging(FedDST):
    name = "exchanging"

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        del table
        return (StrategyTensor("moment", "shared", like="prunable", combine="kept", masked=True, fill=2.0),)


def test_a_masked_one_is_0_where_the_mask_of_all_prunes(drive: Drive) -> None:
    STRATEGIES["exchanging"] = Exchanging
    bench = drive(tiny_experiment(strategy={"name": "exchanging", "readjust_every": 1}))
    play(bench, lambda _client, _answer: None)
    model = open_file(bench.run.model_path(1))
    kept = unpack(bench.run.load_masks(bench.run.shared_mask.digest)[W], (12, 6))
    assert not model["moment:0.weight"][~kept].any()
    assert not model[W][~kept].any()
    assert bench.finish().run.state == "finished"
    assert problems(bench.path) == []
