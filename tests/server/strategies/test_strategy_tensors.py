"""Tensors of a strategy's own through rounds: where each comes from, what it comes to, and what is refused."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.common.names import Digest
from lotteryfl.common.packedmasks import unpack
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.wire.payload import KEPT
from lotteryfl.common.wire.strategytensor import StrategyTensor
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.summary import write_summary
from lotteryfl.server.results.ticket import export_global, export_ticket
from lotteryfl.server.results.view import open_run
from lotteryfl.server.rounds.longer import with_settings
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.rounds.work import Work
from lotteryfl.server.rpc.filestream import model_stream
from lotteryfl.server.store.runfiles import come_up_file
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.cell import Cell
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.feddst import FedDST
from lotteryfl.server.strategies.fedltn import FedLTN
from lotteryfl.server.strategies.fedselect import FedSelect
from lotteryfl.server.strategies.ssfl import SSFL
from lotteryfl.server.strategies.standalone import Standalone
from tests.support.bench import Answer, Bench, TinyTask, create, simulated, tiny_experiment, tiny_mlp
from tests.support.damage import flip, problems, rewritten
from tests.support.strategytensors import Holding, holding

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


# ---- what is refused


class WithOne(FedAvg):
    """One tensor, of what `strategy.options` says."""

    name = "with-one"

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        del table
        options: dict[str, Any] = dict(self.experiment.strategy.options)
        shape = (options.pop("size"),) if "size" in options else ()
        return (StrategyTensor("x", shape=shape, **options),)


class Apart(WithOne, Standalone):
    name = "apart"
    aggregates = False


class ExchangingOwn(WithOne, FedDST):
    name = "exchanging-own"
    starts_under = "shared mask"


@pytest.mark.parametrize(
    ("name", "options", "changes", "message"),
    [
        (
            "with-one",
            {"role": "shared"},
            {"privacy": {"clip_norm": 1.0}},
            "'x' is a tensor of its own, which [privacy]",
        ),
        ("with-one", {"role": "up"}, {"engine": {"stacked": 2}}, "'x' is a tensor of its own, and engine.stacked = 2"),
        ("apart", {"role": "shared"}, {}, "'x' is put together from results, and with this strategy none are"),
        ("apart", {"role": "up"}, {}, "'x' is put together from results, and with this strategy none are"),
        (
            "with-one",
            {"role": "own"},
            {"evaluation": {"global_every": 1}},
            "'x' is each client's own: expected evaluation.global_every = 0, not 1",
        ),
        (
            "exchanging-own",
            {"role": "own", "like": "prunable", "masked": True},
            {},
            "'x:0.weight' is each client's own and masked, and with this strategy a client has no mask of its own",
        ),
        ("with-one", {"role": "lent"}, {}, "its tensors: 'x': role = 'lent', expected one of 'shared', 'own', 'up'"),
        ("with-one", {"role": "own", "size": -1}, {}, "its tensors: tensor table[4]['shape'][0]: Input should be"),
    ],
)
def test_what_does_not_go_together_is_named_before_the_run_is(
    tmp_path: Path, name: str, options: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    STRATEGIES.update({each.name: each for each in (WithOne, Apart, ExchangingOwn)})
    experiment = tiny_experiment(strategy={"name": name, "options": options}, **changes)
    with pytest.raises(ExperimentError) as caught:
        create(tmp_path / "run", experiment, TinyTask())
    assert str(caught.value).startswith(f"strategy.name = {name!r}: {message}")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_is_a_clients_own_goes_round_where_nothing_is_put_together(drive: Drive) -> None:
    STRATEGIES["apart"] = Apart
    bench = drive(tiny_experiment(strategy={"name": "apart", "options": {"role": "own", "size": 2}}))
    play(bench, lambda client, answer: answer.entries["dense/x"].fill_(client + 1))
    for row in bench.run.database.clients():
        if row.ticket:
            assert open_file(bench.run.path / row.ticket)["dense/x"].tolist() == [row.client + 1] * 2
    assert bench.finish().run.state == "finished"


class OfOtherTensors(Holding):
    """What `Holding` has become since."""

    def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
        return super().tensors(table)[:-1]


def test_other_tensors_than_the_run_was_set_up_with_are_named(drive: Drive) -> None:
    bench = drive(holding())
    STRATEGIES["holding"] = OfOtherTensors
    with pytest.raises(ExperimentError, match="not those that the run was set up with: tensor 'norm' is there, but no"):
        bench.restart()


class SendingWhatIsNot(Holding):
    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        plan = super().plan(round_, client)
        plan.sends.append("control")
        return plan


def test_a_plan_that_sends_what_does_not_go_up_is_named(drive: Drive) -> None:
    STRATEGIES["holding"] = SendingWhatIsNot
    with pytest.raises(
        ExperimentError, match="a plan sends 'control', expected some of its tensors that only go up: n"
    ):
        drive(holding())


def test_a_run_whose_clients_were_measured_with_own_ones_is_not_made_longer(drive: Drive) -> None:
    bench = drive(holding()).finish()
    with pytest.raises(LotteryFLError, match=r"which they go on from: 'mine:0\.weight' is each client's own"):
        with_settings(bench.run, ["rounds=3"])


# ---- what is found of a run


def test_a_flipped_byte_is_found_wherever_it_is(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", holding()) as run:
        write_summary(run)
        model, ticket = run.model_path(2), run.path / run.database.clients()[0].ticket
    with rewritten(model) as tensors:
        tensors["count"] += 1
    assert any("model_sha256" in problem for problem in problems(run.path))
    with rewritten(model) as tensors:
        tensors["count"] -= 1
    assert problems(run.path) == []
    flip(ticket, 0 - 1)
    assert any("tickets_sha256" in problem or "last byte" in problem for problem in problems(run.path))


def test_models_that_go_out_are_the_tasks_own(tmp_path: Path) -> None:
    """What all share, and what is a client's, lie beside."""
    names = {"0.bias", W, "2.bias", "2.weight"}
    with simulated(tmp_path / "run", holding()) as run:
        export_global(run, tmp_path / "all.safetensors")
        export_ticket(run, 1, tmp_path / "one")
        streamed = parse(bytearray().join(model_stream(run, 2)), "model")
    assert set(streamed) == set(open_file(tmp_path / "all.safetensors")) == set(open_file(tmp_path / "one")) == names
    TinyTask().model().load_state_dict(streamed)
    assert {name.split(":")[0] for name in open_file(tmp_path / "all-strategy.safetensors")} == {
        "control", "count", "moment",
    }  # fmt: skip
    own = open_file(tmp_path / "one-strategy.safetensors")
    assert {name.split(":")[0] for name in own} == {"mine", "seen"}
    with open_run(tmp_path / "run") as view:
        assert set(view.global_model()) == set(view.ticket(1)) == names
        assert digest(view.strategy_tensors(1)) == digest(own)
        assert view.strategy_tensors()["count"].item() == 13.5


def bias_frozen() -> nn.Module:
    model = tiny_mlp()
    model.get_parameter("2.bias").requires_grad_(False)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {"wire_dtype": "int8", "aggregation": {"rule": "trimmed_mean"}},
        {"strategy": {"name": "holding", "personal": ["0.*"]}, "server": {"optimizer": "adam"}},
    ],
    ids=str,
)
def test_they_go_with_all_else_that_an_experiment_says(changes: dict[str, Any], tmp_path: Path) -> None:
    """And with what is frozen of the model, which nothing of theirs is like."""
    with simulated(tmp_path / "run", holding(**changes), TinyTask(bias_frozen)) as run:
        assert {row.state for round_ in (1, 2, 3) for row in run.database.assignments(round_)} == {"done"}
        model = open_file(run.model_path(2))
        assert set(parse(bytearray().join(model_stream(run, 2)), "model")) == {"0.bias", W, "2.bias", "2.weight"}
    assert {name for name in model if name.startswith("control")} == {f"control:{n}" for n in ("0.bias", W, "2.weight")}
    assert model["count"].item() == 13.5
    assert problems(tmp_path / "run") == []


@pytest.mark.parametrize("base", [Cell, SSFL, FedSelect, FedLTN], ids=lambda base: base.name)
def test_they_go_with_every_kind_of_strategy(base: type[Strategy], tmp_path: Path) -> None:
    """Masks of no lasting, measurements, own weights, a jump start: a round that measures changes none of them."""

    class Adding(base):  # type: ignore[misc, valid-type]
        name = "adding"

        def tensors(self, table: TensorTable) -> Sequence[StrategyTensor]:
            del table
            return (
                StrategyTensor("moment", "shared", like="prunable", combine="kept", masked=True, fill=2.0),
                StrategyTensor("number", "shared", combine="sum", fill=1.0),
                StrategyTensor("mine", "own", like="prunable"),
                StrategyTensor("votes", "up", like="prunable", dtype=torch.bool),
            )

        def plan(self, round_: int, client: ClientState) -> pb.Plan:
            plan: pb.Plan = super().plan(round_, client)
            plan.sends.append("votes")
            return plan

    STRATEGIES["adding"] = Adding
    settings = {"name": "adding", "personal_rate": 0.1, "jump_start_epochs": 1}
    with simulated(tmp_path / "run", tiny_experiment(strategy=settings)) as run:
        assert {row.state for round_ in (1, 2, 3) for row in run.database.assignments(round_)} == {"done"}
        strategy = Adding(run.experiment)
        senders = [3 if strategy.trains(round_) and not strategy.takes_best(round_) else 1 for round_ in (1, 2)]
        assert open_file(run.model_path(2))["number"].item() == math.prod(senders)
    assert problems(tmp_path / "run") == []
