"""A result beside the plan of its assignment: what its mask may lose, and what goes with it."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lotteryfl.common import packedmasks
from lotteryfl.common.names import WorkerId
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.payload import mask_digest, pack_mask_update
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.bench import Answer, Bench, simulated, tiny_experiment

Drive = Callable[..., Bench]
ACCEPTED, REFUSED = pb.SubmitReply.ACCEPTED, pb.SubmitReply.REFUSED
WEIGHTS = {"0.weight": (12, 6), "2.weight": (3, 12)}


def keeping(bench: Bench, answer: Answer, counts: dict[str, int]) -> Answer:
    """The answer of a client that was dense, and keeps the first so many weights of each tensor."""
    masks = {name: packedmasks.pack(torch.arange(torch.Size(WEIGHTS[name]).numel()) < counts[name]) for name in counts}
    table = bench.run.table
    entries = WireFormat(table, "float32").pack({s.name: torch.zeros(s.shape) for s in table}, masks)
    result = pb.Result()
    result.CopyFrom(answer.result)
    result.mask_digest = mask_digest(masks)
    result.metrics.density = sum(counts.values()) / 108 if counts else 1.0
    return Answer(result, entries | pack_mask_update(masks, {}))


def first(drive: Drive, **strategy: object) -> tuple[Bench, WorkerId, Answer]:
    """The answer of a client in its first round: it was dense."""
    bench = drive(tiny_experiment(strategy=strategy))
    worker = bench.register()
    return bench, worker, bench.do(bench.take(worker))


@pytest.mark.parametrize(
    ("strategy", "kept", "most"),
    [
        ({}, {"0.weight": 72, "2.weight": 4}, 32),  # 0.3 of 108
        ({"prune_rate": 0.9}, {"0.weight": 54, "2.weight": 0}, 54),  # stops at the target, a half
        ({"prune_rate": 0.9, "overshoot": True}, {"0.weight": 0, "2.weight": 11}, 97),
        ({"prune_rate": 1.0, "target_density": 1.0}, {"0.weight": 72, "2.weight": 36}, 0),
    ],
)
def test_a_mask_loses_no_more_than_one_step_of_the_plan(
    drive: Drive, strategy: dict[str, object], kept: dict[str, int], most: int
) -> None:
    bench, worker, answer = first(drive, **strategy)
    assert sum(kept.values()) == 108 - most
    name = max(kept, key=kept.__getitem__)
    reply = bench.submit(worker, keeping(bench, answer, kept | {name: kept[name] - 1}))
    assert reply.verdict == REFUSED
    assert reply.reason == f"it lost {most + 1} of 108 weights, expected at most {most} in one step of its plan"
    answer = bench.do(bench.take(worker))
    assert bench.submit(worker, keeping(bench, answer, kept)).verdict == ACCEPTED


def test_with_one_threshold_for_each_tensor_each_loses_no_more_than_its_share(drive: Drive) -> None:
    """Give or take one weight: every tensor rounds by itself."""
    bench, worker, answer = first(drive, scope="layer")
    reply = bench.submit(worker, keeping(bench, answer, {"0.weight": 72, "2.weight": 36 - 13}))
    assert reply.verdict == REFUSED
    assert reply.reason == "2.weight: lost 13 of 36 weights, expected at most 12 in one step of its plan"
    answer = bench.do(bench.take(worker))
    assert bench.submit(worker, keeping(bench, answer, {"0.weight": 72 - 22, "2.weight": 36 - 12})).verdict == ACCEPTED


def test_below_the_threshold_nothing_is_lost(drive: Drive) -> None:
    bench, worker, answer = first(drive, accuracy_threshold=1.0)
    answer.result.metrics.validation.accuracy = 0.99
    reply = bench.submit(worker, keeping(bench, answer, {"0.weight": 71, "2.weight": 36}))
    assert reply.verdict == REFUSED
    assert reply.reason == "it lost 1 weights with a validation accuracy of 0.99, expected none below 1.0"
    answer = bench.do(bench.take(worker))
    answer.result.metrics.validation.accuracy = 1.0
    assert bench.submit(worker, keeping(bench, answer, {"0.weight": 71, "2.weight": 36})).verdict == ACCEPTED


def test_what_a_pruning_depends_on_comes_with_it(drive: Drive) -> None:
    bench, worker, answer = first(drive)
    answer.result.metrics.ClearField("validation")
    reply = bench.submit(worker, answer)
    assert (reply.verdict, reply.reason[:27]) == (REFUSED, "metrics.validation: missing")


@pytest.mark.parametrize("kept", [{"0.weight": 71, "2.weight": 36}, {"0.weight": 72, "2.weight": 36}])
def test_without_a_pruning_in_the_plan_no_mask_changes(drive: Drive, kept: dict[str, int]) -> None:
    """Not even from none to one that keeps everything."""
    bench, worker, answer = first(drive, name="fedavg")
    reply = bench.submit(worker, keeping(bench, answer, kept))
    assert (reply.verdict, reply.reason) == (REFUSED, "its mask has changed, but its plan does not prune")
    answer = bench.do(bench.take(worker))
    assert bench.submit(worker, keeping(bench, answer, {})).verdict == ACCEPTED


def test_in_the_final_round_no_mask_changes(drive: Drive) -> None:
    bench = drive(tiny_experiment(rounds=1, clients_per_round=4))
    worker = bench.register()
    bench.do_all(worker)
    bench.commit()
    answer = bench.do(bench.take(worker))
    name = "0.weight"
    kept = answer.entries[f"kept/{name}"]
    bits = torch.ones(len(kept))
    bits[0] = 0
    answer.entries |= {f"kept/{name}": kept[1:], f"mask/{name}": torch.from_numpy(packedmasks.pack(bits))}
    assigned = bench.coordinator.wanted(worker, answer.result.assignment_id)
    assert not isinstance(assigned, pb.SubmitReply)
    masks = dict(bench.run.load_masks(assigned.mask))
    masks[name] = packedmasks.decode_subset(packedmasks.pack(bits), masks[name])
    answer.result.mask_digest = mask_digest(masks)
    answer.result.metrics.density -= 1 / 108
    reply = bench.submit(worker, answer)
    assert (reply.verdict, reply.reason) == (REFUSED, "its mask has changed, but its plan does not prune")


def test_the_density_is_that_of_the_mask(drive: Drive) -> None:
    bench, worker, answer = first(drive)
    answer.result.metrics.density += 1e-6
    reply = bench.submit(worker, answer)
    assert reply.verdict == REFUSED
    assert reply.reason == f"metrics.density = {answer.result.metrics.density}: the mask sent has {76 / 108}"


def test_all_evaluations_are_on_the_same_test_data(drive: Drive) -> None:
    bench, worker, answer = first(drive)
    answer.result.metrics.personalised.examples = 10
    reply = bench.submit(worker, answer)
    assert reply.verdict == REFUSED
    assert reply.reason == "metrics.personalised.examples = 10: expected 9, as before the training"


def test_the_cap_on_examples_is_the_experiments(drive: Drive) -> None:
    bench = drive(tiny_experiment(checks={"max_examples": 8}))
    worker = bench.register()
    by_client = {}
    for _ in range(3):
        answer = bench.do(bench.take(worker))
        reply = bench.submit(worker, answer)
        by_client[answer.result.examples] = reply.verdict
        if reply.verdict == REFUSED:
            assert reply.reason == f"examples = {answer.result.examples}: expected 1 to 8"
            break
    assert by_client.items() <= {8: ACCEPTED, 9: REFUSED, 10: REFUSED, 11: REFUSED}.items()
    assert REFUSED in by_client.values()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.floats(0.01, 1),
    target=st.floats(0.01, 1),
    threshold=st.sampled_from([0.0, 0.5]),
    scope=st.sampled_from(["global", "layer"]),
    overshoot=st.booleans(),
    seed=st.integers(0, 100),
)
def test_whoever_follows_the_plan_is_never_refused(
    tmp_path_factory: pytest.TempPathFactory,
    rate: float,
    target: float,
    threshold: float,
    scope: str,
    overshoot: bool,
    seed: int,
) -> None:
    experiment = tiny_experiment(
        seed=seed,
        strategy={
            "prune_rate": rate,
            "target_density": target,
            "accuracy_threshold": threshold,
            "scope": scope,
            "overshoot": overshoot,
        },
    )
    with simulated(tmp_path_factory.mktemp("plans") / "run", experiment) as run:
        assert run.database.refusals() == {}
        assert run.state == "finished"
