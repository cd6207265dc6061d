"""One contract for all strategies, in whole small runs."""

import shutil
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.names import Digest
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.wire.maskrule import RULES, rule_of
from lotteryfl.common.wire.payload import mask_density
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.summary import summarise, write_summary
from lotteryfl.server.results.ticket import export_ticket
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.rounds.work import Step, Work
from lotteryfl.server.store.rundb.rows import AssignmentRow
from lotteryfl.server.store.runfiles import model_file
from lotteryfl.server.strategies import STRATEGIES, create_strategy
from lotteryfl.server.strategies.base import ClientState, Strategy
from tests.support.bench import Bench, Tied, TinyTask, simulated, tiny_experiment
from tests.support.damage import problems

Drive = Callable[..., Bench]

SETTINGS: dict[str, dict[str, Any]] = {
    "lg-fedavg": {"personal": ["encoder.*"]},
    "one-ticket": {"personal": ["decoder.*"]},
    "fedltn": {"jump_start_epochs": 2},
    "feddst": {"readjust_every": 1},
    "fedselect": {"personal_rate": 0.2, "personal_limit": 0.5},
    "sub-fedavg": {"min_mask_change": 0.01},
    "cell": {"prune_rate": 0.2},
    "fedrts": {"readjust_every": 1},
    "fedtiny": {"options": {"candidates": 2}},
    "balanced-ticket": {"options": {"first": 1.5, "pruned_by": 2}},
    "prunefl": {"readjust_every": 1, "options": {"initial_rounds": 0, "overhead": 100.0}},
}
"""What the tiny runs need to show what a strategy does."""

REACHED = {
    **dict.fromkeys(("scaffold", "ditto", "apfl", "fedala"), 1.0),
    **dict.fromkeys(
        ("lotteryfl", "cell", "sub-fedavg", "fedltn", "fedselect", "ssfl", "feddst", "one-ticket"), 27 / 54
    ),
    **dict.fromkeys(("fedavg", "fedavg-finetune", "standalone", "fedprox", "lg-fedavg", "fedper", "fedbn"), 1.0),
    "heterofl": (54 + 27 + 18) / (3 * 54),  # rows and columns of the two that have a half and a quarter of 6 units
    **dict.fromkeys(("fedpm", "spafl"), 1.0),  # their masks are not those that weights travel under
    **dict.fromkeys(("fedrep", "fedbabu"), 1.0),
    "flasc": 1.0,  # what is sent is sparse, and a ticket is what was trained
    **dict.fromkeys(("sparsyfed", "dispfl"), 27 / 54),
    "hermes": 30 / 54,  # whole rows, and none of the last layer's
    **dict.fromkeys(("prunefl", "fedrts", "fedtiny", "balanced-ticket"), 27 / 54),
}
"""Density of every client's ticket after a run of `experiment_of`."""

TRAINS = {"fedtiny": 3}
"""The first round in which a strategy trains, where it is later than the second."""


def experiment_of(name: str, **changes: Any) -> Experiment:
    settings = {"name": name, **SETTINGS.get(name, {}), **changes.pop("strategy", {})}
    table = {"rounds": 4, "clients": 3, "clients_per_round": 3, "training": {"epochs": 2}, "strategy": settings}
    return tiny_experiment(**{**table, **changes})


def create(name: str, **changes: Any) -> Strategy:
    return create_strategy(tiny_experiment(strategy={"name": name}, **changes))


every = pytest.mark.parametrize("name", list(STRATEGIES))
IN_EVERY_DTYPE = {"lotteryfl", "fedavg", "scaffold", "hermes"}
"""Strategies whose runs in int8 and bfloat16 are not slow tests: a mask a client, none, tensors beside, whole rows."""


def test_what_there_is() -> None:
    assert set(STRATEGIES) == REACHED.keys()
    with pytest.raises(ExperimentError, match=r"strategy\.name = 'x': must be one of lotteryfl, fedavg, .*--strategy"):
        create("x")


def test_masks_shrink_but_where_a_strategy_says_otherwise() -> None:
    assert {name: cls.mask_rule for name, cls in STRATEGIES.items() if cls.mask_rule != "shrinks"} == {
        "feddst": "exchanges",
        "dispfl": "exchanges",
        "flasc": "free",
    }


@every
def test_a_strategy_is_created_by_its_name(name: str) -> None:
    strategy = create(name)
    assert type(strategy) is STRATEGIES[name]
    assert strategy.name == name
    assert strategy.experiment.strategy.name == name


@every
@given(seed=st.integers(0, 2**63 - 1), round_=st.integers(1, 10**6), data=st.data())
def test_a_sample_is_so_many_distinct_clients_in_order(name: str, seed: int, round_: int, data: st.DataObject) -> None:
    clients = data.draw(st.integers(1, 50))
    size = data.draw(st.integers(1, clients))
    changes = {"seed": seed, "clients": clients, "clients_per_round": size}
    sample = create(name, **changes).sample(round_)
    first = {"prunefl": 1, "balanced-ticket": (size + 1) // 2}  # one client prunes, half of them measure
    assert len(sample) == (first.get(name, size) if round_ == 1 else size)
    assert sample == sorted(set(sample))
    assert set(sample) <= set(range(clients))
    assert sample == create(name, **changes).sample(round_)


def test_samples_differ_by_round_and_seed_and_reach_everyone_equally() -> None:
    strategy = create("lotteryfl", clients=20, clients_per_round=5)
    samples = [strategy.sample(round_) for round_ in range(1, 401)]
    assert len({tuple(sample) for sample in samples}) > 380
    other = create("lotteryfl", seed=1, clients=20, clients_per_round=5)
    assert samples != [other.sample(round_) for round_ in range(1, 401)]
    times = [sum(client in sample for sample in samples) for client in range(20)]
    assert min(times) > 65  # 100 expected, 8.7 standard deviation
    assert max(times) < 135


@every
def test_a_plan_trains_as_the_experiment_says_and_travels(name: str) -> None:
    strategy = create(name, training={"epochs": 7})
    for plan in (strategy.plan(TRAINS.get(name, 2), ClientState(0)), strategy.final_plan(ClientState(0))):
        assert plan.train.epochs == 7
        assert pb.Plan.FromString(plan.SerializeToString()) == plan


@every
def test_or_as_many_steps_as_it_says(name: str) -> None:
    strategy = create(name, training={"epochs": 7, "steps": 11})
    for plan in (strategy.plan(TRAINS.get(name, 2), ClientState(0)), strategy.final_plan(ClientState(0))):
        assert (plan.train.steps, plan.train.epochs) == (11, 0)


@every
def test_the_last_round_prunes_nothing_further_and_trains_as_long_as_it_is_told(name: str) -> None:
    settings = {"name": name, "finetune_epochs": 9}
    strategy = create_strategy(tiny_experiment(strategy=settings, training={"epochs": 2}))
    plan = strategy.final_plan(ClientState(0, lambda: [0.7, 0.6]))
    assert plan.train.epochs == 9
    assert plan.rewind == pb.Plan.NONE
    assert not plan.HasField("select")
    assert not plan.HasField("readjust")
    assert plan.HasField("prune") == (name in ("cell", "sparsyfed"))  # which begin from the whole model
    assert strategy.plan(TRAINS.get(name, 2), ClientState(0)).train.epochs == 2


# ---- whole runs


class Watcher:
    """Looks at everything that is handed out, counted and committed."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._run = bench.run
        self._strategy = bench.coordinator.strategy
        self._target = bench.run.experiment.strategy.target_density

    def handed_out(self, work: Work) -> None:
        """Whatever a worker is given is exactly 0 off its mask, unless that is the client's own."""
        masks = self._run.load_masks(Digest(work.assignment.mask_digest))
        entries = parse(bytearray().join(assignment_payload(self._run, work)), "payload")
        own = work.row.plan.owns_unkept
        tensors = self._run.wire.unpack(entries, masks, own=own)
        shared = self._run.shared_mask.digest
        of_all = {"own mask": work.row.mask, "shared mask": shared, "sent mask": shared, "no mask": ""}
        assert work.row.mask == of_all[self._strategy.starts_under]
        if not own:
            self._assert_zero_off(masks, tensors)

    def counted(self, row: AssignmentRow) -> None:
        """A result's mask is within the one it started from, if there was one; whole weights, as the plan allows."""
        (result,) = [r for r in self._run.database.results(row.round) if r.client == row.client]
        before, after = self._run.load_masks(row.mask), self._run.load_masks(result.mask)
        if rule_of(row.plan) == "shrinks":
            assert all(packedmasks.is_subset(after[name], packed) for name, packed in before.items())
        assert RULES.index(rule_of(row.plan)) <= RULES.index(self._strategy.mask_rule)
        plan, had, has = row.plan, mask_density(self._run.table, before), mask_density(self._run.table, after)
        row_of_every_tensor = 6 * 3 / 54 if plan.prune.scope == pb.Plan.ROWS else 0.0
        if plan.HasField("prune"):
            assert has >= min(had, self._target) - row_of_every_tensor / 2
            assert has >= had * (1 - plan.prune.rate) - 1 / 54 - row_of_every_tensor / 2
        elif plan.HasField("select"):
            assert has >= had - plan.select.rate - 1 / 54
        elif plan.HasField("free_mask"):
            assert has <= plan.free_mask.density
        else:
            assert has == had

    def committed(self) -> None:
        assert problems(self._bench.path) == []
        if self._strategy.starts_under == "shared mask" and self._run.model_round:
            model = open_file(self._run.model_path(self._run.model_round))
            self._assert_zero_off(self._run.load_masks(self._run.shared_mask.digest), model)

    def _assert_zero_off(self, masks: Masks, tensors: Mapping[str, Tensor]) -> None:
        for name, mask in masks.items():
            off = ~packedmasks.unpack(mask, tensors[name].shape)
            assert not tensors[name][off].view(torch.int32).any(), f"{name}: not exactly +0 off the mask"


def finish_watched(bench: Bench) -> None:
    watcher, worker = Watcher(bench), bench.register()
    while (step := bench.coordinator.advance()) is not Step.ENDED:
        if step is Step.COMMIT:
            bench.commit()
            watcher.committed()
        elif work := bench.coordinator.lease(worker):
            watcher.handed_out(work)
            reply = bench.submit(worker, bench.do(work))
            assert reply.verdict == pb.SubmitReply.ACCEPTED, reply.reason
            watcher.counted(work.row)


@pytest.mark.parametrize(
    ("name", "wire_dtype"),
    [
        pytest.param(name, dtype, marks=[pytest.mark.slow] * (dtype != "float32" and name not in IN_EVERY_DTYPE))
        for name, dtype in product(STRATEGIES, ("float32", "int8", "bfloat16"))
    ],
)
def test_the_contract(name: str, wire_dtype: str, tmp_path: Path, drive: Drive) -> None:
    experiment = experiment_of(name, wire_dtype=wire_dtype)
    bench = drive(experiment, TinyTask(Tied))
    strategy = bench.coordinator.strategy
    finish_watched(bench)
    summary = summarise(bench.run)
    assert summary["strategy"] == name
    initial = digest(open_file(bench.path / model_file(0)))
    assert (summary["model_sha256"] != initial) == strategy.aggregates
    assert (summary["density"]["mean"] < 1) == (strategy.prunes and not strategy.sends_changes)
    assert summary["density"]["mean"] == pytest.approx(REACHED[name])
    for client in range(3):
        export_ticket(bench.run, client, tmp_path / "ticket.safetensors")
        assert open_file(tmp_path / "ticket.safetensors").keys() == Tied().state_dict().keys()
    write_summary(bench.run)
    assert problems(bench.path) == []

    with simulated(tmp_path / "again", experiment, TinyTask(Tied)) as again:
        assert (again.database.get("model_sha256"), again.tickets_sha256()) == bench.bits()[:2], "not the same bits"


@every
def test_a_run_that_is_interrupted_anywhere_ends_with_the_same_bits(name: str, drive: Drive) -> None:
    """Killed in the middle of every round, and between aggregation and commit; some clients sit rounds out."""
    experiment = experiment_of(name, clients=4, clients_per_round=3, rounds=3)
    undisturbed = drive(experiment, TinyTask(Tied), "undisturbed").finish()
    bench = drive(experiment, TinyTask(Tied))
    while bench.run.state != "finished":
        worker = bench.restart().register()
        bench.submit(worker, bench.do(bench.take(worker)))
        bench.take(worker)
        bench.incarnation += 1
        bench.restart()
        worker = bench.register()
        bench.do_all(worker)
        assert bench.coordinator.advance() is Step.COMMIT
        bench.conclude()
        bench.incarnation += 1
        bench.restart()
        assert problems(bench.path) == []
        bench.commit()
    assert bench.bits() == undisturbed.bits()


@every
def test_a_copy_of_a_run_in_mid_round_is_sound(name: str, tmp_path: Path, drive: Drive) -> None:
    """Of its second round, some results of which are there."""
    bench = drive(experiment_of(name), TinyTask(Tied))
    worker = bench.register()
    bench.do_all(worker)
    bench.commit()
    bench.submit(worker, bench.do(bench.take(worker)))
    copy = shutil.copytree(bench.path, tmp_path / "copy")
    assert problems(copy) == []
