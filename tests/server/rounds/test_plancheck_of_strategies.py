"""Whether a client did with its mask what its plan says: what every kind of plan allows, and one weight more."""

import pytest
import torch

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.packedmasks import Masks, PackedMask
from lotteryfl.common.wire.payload import mask_density
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.plancheck import check_plan

TABLE = TensorTable(
    (
        TensorSpec("a", torch.float32, (10, 6), "parameter", prunable=True),
        TensorSpec("b", torch.float32, (4, 10), "parameter", prunable=True),
    )
)


def kept(a: int, b: int, *, shift: int = 0) -> Masks:
    """Masks that keep the first a and b weights, from another one on."""

    def first(count: int, size: int) -> PackedMask:
        return packedmasks.pack((torch.arange(size) >= shift) & (torch.arange(size) < count + shift))

    return {"a": first(a, 60), "b": first(b, 40)}


def check(plan: pb.Plan, before: Masks, after: Masks, accuracy: float | None = 1.0) -> None:
    validation = None if accuracy is None else pb.Evaluation(examples=9, accuracy=accuracy)
    metrics = pb.ClientMetrics(density=mask_density(TABLE, after), validation=validation)
    check_plan(TABLE, plan, before, after, metrics)


def pruning(rate: float = 0.2, target: float = 0.5, scope: int = pb.Plan.GLOBAL, **more: float) -> pb.Plan:
    return pb.Plan(prune=pb.Plan.Prune(rate=rate, target_density=target, scope=scope, **more))  # type: ignore[arg-type]


def test_training_alone_leaves_a_mask_as_it_is() -> None:
    for plan in (pb.Plan(train=pb.Plan.Train(epochs=1)), pb.Plan(owns_unkept=True), pb.Plan(measure_saliency=True)):
        check(plan, {}, {}, None)
        check(plan, kept(30, 20), kept(30, 20), None)
        for before, after in (({}, kept(60, 40)), ({}, kept(59, 40)), (kept(30, 20), kept(29, 20))):
            with pytest.raises(PayloadError, match="its mask has changed, but its plan does not prune"):
                check(plan, before, after, None)


def test_a_step_prunes_no_more_than_its_rate_and_not_beyond_the_target() -> None:
    check(pruning(), {}, kept(45, 35))
    with pytest.raises(PayloadError, match="it lost 21 of 100 weights, expected at most 20 in one step"):
        check(pruning(), {}, kept(44, 35))
    check(pruning(), kept(30, 25), kept(25, 25))
    with pytest.raises(PayloadError, match="it lost 6 of 55 weights, expected at most 5"):
        check(pruning(), kept(30, 25), kept(24, 25))


def test_with_a_threshold_for_each_tensor_every_one_loses_its_share() -> None:
    check(pruning(scope=pb.Plan.LAYER), {}, kept(48, 32))
    with pytest.raises(PayloadError, match="a: lost 14 of 60 weights, expected at most 13"):
        check(pruning(scope=pb.Plan.LAYER), {}, kept(46, 40))


def test_rows_round_by_whole_rows() -> None:
    """A fifth of the 60 weights of a is two rows of six; a row more is rounding."""
    check(pruning(scope=pb.Plan.ROWS), {}, kept(42, 40))
    with pytest.raises(PayloadError, match="a: lost 24 of 60 weights, expected at most 18"):
        check(pruning(scope=pb.Plan.ROWS), {}, kept(36, 40))


def test_whoever_prunes_was_good_enough_and_says_so() -> None:
    plan = pruning(accuracy_threshold=0.7)
    check(plan, {}, kept(50, 40), 0.7)
    check(plan, {}, {}, 0.1)
    with pytest.raises(
        PayloadError, match=r"it lost 10 weights with a validation accuracy of 0.5, expected none below"
    ):
        check(plan, {}, kept(50, 40), 0.5)
    with pytest.raises(PayloadError, match=r"metrics.validation: missing"):
        check(plan, {}, {}, None)


def test_where_masks_have_to_change_first_nothing_was_judged_if_they_did_not() -> None:
    plan = pruning(after_training=True, min_mask_change=0.01)
    check(plan, {}, {}, None)
    with pytest.raises(PayloadError, match=r"metrics.validation: missing"):
        check(plan, {}, kept(50, 40), None)


def test_as_many_weights_come_as_go_and_no_more_than_the_rate() -> None:
    """Six of thirty, three of twenty."""
    plan = pb.Plan(readjust=pb.Plan.Readjust(rate=0.2))
    check(plan, kept(30, 20), kept(30, 20), None)
    check(plan, kept(30, 20), kept(30, 20, shift=4), None)
    with pytest.raises(PayloadError, match="b: 5 of 20 weights were exchanged, expected at most 4 by its plan"):
        check(plan, kept(30, 20), kept(30, 20, shift=5), None)
    for after in (kept(29, 20), kept(31, 20), kept(31, 19), {}):
        with pytest.raises(PayloadError, match="its mask has changed"):
            check(plan, kept(30, 20), after, None)


def test_a_free_mask_is_bound_by_its_density_alone() -> None:
    """Whatever was kept before, and whatever else the plan does."""
    plan = pb.Plan(free_mask=pb.Plan.FreeMask(density=0.5))
    for before in ({}, kept(30, 20), kept(1, 1)):
        check(plan, before, kept(30, 20, shift=5), None)
        check(plan, before, kept(0, 0), None)
        with pytest.raises(PayloadError, match="its mask keeps 51 of 100 weights, expected at most 50 by its plan"):
            check(plan, before, kept(31, 20), None)
    check(pb.Plan(free_mask=pb.Plan.FreeMask()), kept(1, 1), {}, None)


def test_a_client_takes_for_its_own_what_it_may() -> None:
    plan = pb.Plan(select=pb.Plan.Select(rate=0.1, limit=0.25), owns_unkept=True)
    check(plan, {}, kept(55, 35), None)
    check(plan, kept(50, 30), kept(45, 30), None)
    check(plan, kept(40, 30), kept(40, 30), None)  # over the limit already, but nothing new
    with pytest.raises(
        PayloadError, match="it made 11 of 100 weights its own and has 11 now, expected at most 10 in one"
    ):
        check(plan, {}, kept(54, 35), None)
    with pytest.raises(PayloadError, match=r"it made 6 of 100 weights its own and has 26 now, .* and 25 in all"):
        check(plan, kept(50, 30), kept(44, 30), None)


def test_the_density_told_is_that_of_the_mask() -> None:
    metrics = pb.ClientMetrics(density=0.9)
    with pytest.raises(PayloadError, match=r"metrics.density = 0.9: the mask sent has 1.0"):
        check_plan(TABLE, pb.Plan(), {}, {}, metrics)
