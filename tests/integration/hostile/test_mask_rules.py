"""Results are held to the mask rule that their strategy declares: a worker that breaks one is refused in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import load
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.wire.payload import DENSE, KEPT, MASK, mask_density, mask_digest
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.rounds.plancheck import check_rule
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import add_strategies, create_strategy
from tests.support.bench import tiny_experiment
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.damage import problems
from tests.support.handworker import Done, HandWorker
from tests.support.runs import Coordinate, Write

FIRST, LAST = "0.weight", "2.weight"  # 192 and 48 weights

SCORED = """
from lotteryfl import Strategy
from lotteryfl.protos import lotteryfl_pb2 as pb


class Scored(Strategy):
    name = "scored"
    prunes = True
    mask_rule = {rule!r}

    def plan(self, round_, client):
        density = self.experiment.strategy.target_density
        return pb.Plan(train=self.local_training(), free_mask=pb.Plan.FreeMask(density=density))
"""


def served(coordinate: Coordinate, write: Write, name: str, **strategy: Any) -> tuple[CoordinatorThread, HandWorker]:
    path = write(rounds=6, clients=2, clients_per_round=2, strategy={"name": name, **strategy})
    server = coordinate(path)
    return server, HandWorker(server)


def forged(run: RunDirectory, done: Done, masks: Masks, sent: Mapping[str, torch.Tensor]) -> Done:
    """Return a result under these masks, which go as they are given; otherwise it is as it should be."""
    entries = {key: values for key, values in done.entries.items() if key.startswith(DENSE)}
    for spec in run.table:
        if spec.prunable:
            entries.pop(DENSE + spec.name, None)
            entries[KEPT + spec.name] = torch.ones(packedmasks.count(masks[spec.name]))
    done.result.mask_digest = mask_digest(masks)
    done.result.metrics.density = mask_density(run.table, masks)
    return Done(done.result, entries | {MASK + name: bits for name, bits in sent.items()})


def keeping(run: RunDirectory, **kept: range) -> Masks:
    """Return masks that keep these weights of each tensor."""
    found = {}
    for name, which in zip((FIRST, LAST), kept.values(), strict=True):
        mask = torch.zeros(run.table[name].shape, dtype=torch.bool)
        mask.view(-1)[list(which)] = True
        found[name] = packedmasks.pack(mask)
    return found


def whole(masks: Masks) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(packed) for name, packed in masks.items()}


def refusal(worker: HandWorker, done: Done) -> str:
    reply = worker.submit(done.messages())
    assert reply.verdict == pb.SubmitReply.REFUSED
    assert "\n" not in reply.reason
    return reply.reason


def test_a_mask_that_shrinks_can_only_lose(coordinate: Coordinate, write: Write) -> None:
    """Of half of the weights, other ones: whole it does not fit, and what fits are bits of those that were kept."""
    server, worker = served(coordinate, write, "feddst", readjust_every=99)
    done = worker.work()
    other = keeping(server.run, first=range(96), last=range(24))
    assert refusal(worker, forged(server.run, done, other, whole(other))) == (
        "mask/0.weight: uint8 of shape [24]: a mask of 96 elements is 12 bytes"
    )
    done = worker.work()
    before = server.run.load_masks(server.run.shared_mask.digest)
    less = {**before, FIRST: before[FIRST].copy()}
    first = int(packedmasks.positions(before[FIRST])[0])
    less[FIRST][first // 8] ^= 1 << first % 8
    subset = {FIRST: torch.from_numpy(packedmasks.encode_subset(less[FIRST], before[FIRST]))}
    done = forged(server.run, done, less, subset)
    assert refusal(worker, done) == "its mask has changed, but its plan does not prune"


def test_a_mask_that_is_exchanged_is_so_to_its_share(coordinate: Coordinate, write: Write) -> None:
    server, worker = served(coordinate, write, "feddst", readjust_every=1, readjust_rate=0.5)
    done = worker.work()
    before = server.run.load_masks(server.run.shared_mask.digest)
    away = [i for i in range(192) if i not in set(packedmasks.positions(before[FIRST]).tolist())]
    moved = torch.zeros(192, dtype=torch.bool)
    moved[away[:40]] = True
    moved[packedmasks.positions(before[FIRST])[:56].tolist()] = True
    masks = {FIRST: packedmasks.pack(moved), LAST: before[LAST]}
    rate = server.run.database.assignments(1)[0].plan.readjust.rate
    assert refusal(worker, forged(server.run, done, masks, whole(masks))) == (
        f"0.weight: 40 of 96 weights were exchanged, expected at most {round(rate * 96)} by its plan"
    )


@pytest.mark.usefixtures("own_strategies")
def test_a_free_mask_may_be_any_that_its_plan_has_room_for(
    coordinate: Coordinate, write: Write, tmp_path: Path
) -> None:
    (tmp_path / "scored.py").write_text(SCORED.format(rule="free"))
    add_strategies(str(tmp_path / "scored.py"))
    server, worker = served(coordinate, write, "scored", target_density=0.5)
    done = worker.work()
    many = keeping(server.run, first=range(96), last=range(25))
    assert refusal(worker, forged(server.run, done, many, whole(many))) == (
        "its mask keeps 121 of 240 weights, expected at most 120 by its plan"
    )
    for ranges in ((range(96), range(24)), (range(96, 192), range(24, 48))):  # the second has nothing of the first
        for client in range(2):
            done = worker.work()
            masks = keeping(server.run, first=ranges[0], last=ranges[1])
            reply = worker.submit(forged(server.run, done, masks, whole(masks)).messages())
            assert reply.verdict == pb.SubmitReply.ACCEPTED, (client, reply.reason)
    assert problems(server.run.path) == []


@pytest.mark.usefixtures("own_strategies")
def test_a_plan_keeps_to_the_rule_that_its_strategy_declares(write: Write, tmp_path: Path) -> None:
    (tmp_path / "scored.py").write_text(SCORED.format(rule="exchanges"))
    add_strategies(str(tmp_path / "scored.py"))
    experiment = load(write(strategy={"name": "scored"}))
    message = "client 0's plan for round 1 has the mask rule 'free', expected 'exchanges' as the strategy declares"
    with (
        create_run(tmp_path / "run", experiment, (experiment.task.name,)) as run,
        pytest.raises(ExperimentError, match=message),
    ):
        Coordinator(run)


@pytest.mark.parametrize("part", ["prune", "select"])
def test_a_plan_that_exchanges_does_nothing_else_with_the_mask(part: str) -> None:
    strategy = create_strategy(tiny_experiment(strategy={"name": "feddst"}))
    plan = pb.Plan(readjust=pb.Plan.Readjust(rate=0.1))
    check_rule(strategy, 1, 0, plan)
    getattr(plan, part).rate = 0.1
    with pytest.raises(ExperimentError, match=r"client 0's plan for round 1 exchanges weights .* expected one of them"):
        check_rule(strategy, 1, 0, plan)
