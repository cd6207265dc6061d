"""What a client may say of its work, and what a run goes by."""

from collections.abc import Callable

import pytest

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.training.score import Score
from lotteryfl.common.wire.clientmetrics import check_metrics, is_good_enough, score_of
from lotteryfl.protos import lotteryfl_pb2 as pb

MAE = Score("mae", higher_is_better=False, own=True)
R2 = Score("r2", own=True)
LOSS = Score("loss", higher_is_better=False, own=True)


def measured(**values: float) -> pb.Evaluation:
    return pb.Evaluation(examples=9, loss=-0.5, values=values)


def metrics(**values: float) -> pb.ClientMetrics:
    one = measured(**values)
    return pb.ClientMetrics(validation=one, downloaded=one, personalised=one, train_loss=-1.5, seconds=1, density=0.5)


def test_an_objectives_numbers_may_be_any_that_are_finite() -> None:
    check_metrics(metrics(mae=2.5, r2=-17.0), globally=False, score=MAE)


def test_a_loss_alone_may_be_the_score() -> None:
    check_metrics(metrics(), globally=False, score=LOSS)
    assert score_of(measured(), LOSS) == -0.5


def named(name: str) -> Callable[[pb.ClientMetrics], None]:
    def change(sent: pb.ClientMetrics) -> None:
        for phase in (sent.validation, sent.downloaded, sent.personalised):
            phase.values[name] = 1.0

    return change


def not_finite(sent: pb.ClientMetrics) -> None:
    sent.personalised.values["r2"] = float("nan")


def without_the_score(sent: pb.ClientMetrics) -> None:
    del sent.downloaded.values["mae"]


def more_before_than_after(sent: pb.ClientMetrics) -> None:
    del sent.personalised.values["r2"]


def a_loss_without_end(sent: pb.ClientMetrics) -> None:
    sent.downloaded.loss = float("-inf")


def far_too_many(sent: pb.ClientMetrics) -> None:
    for number in range(31):
        sent.validation.values[f"metric_{number}"] = 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (not_finite, r"^metrics\.personalised\.r2 = nan: expected a finite number$"),
        (without_the_score, r"^metrics\.downloaded\.values: 'mae', the run's score, is missing$"),
        (more_before_than_after, r"^metrics\.personalised\.values: \['mae'\], expected \['mae', 'r2'\] as downloaded$"),
        (a_loss_without_end, r"^metrics\.downloaded\.loss = -inf: expected a finite number$"),
        (far_too_many, r"^metrics\.validation\.values: 33, expected at most 32$"),
        (named("R2"), r"'R2': expected a letter and up to 63 letters, digits and underscores, lower case$"),
        (named("a" * 65), "expected a letter and up to 63"),
        (named("é"), "expected a letter and up to 63"),
        (named("loss"), r"'loss': is taken: expected another name$"),
        (named("phase"), r"'phase': is taken"),
    ],
)
def test_what_cannot_be_true_of_an_objective_is_named(change: Callable[[pb.ClientMetrics], None], message: str) -> None:
    sent = metrics(mae=2.5, r2=0.5)
    change(sent)
    with pytest.raises(PayloadError, match=message):
        check_metrics(sent, globally=False, score=MAE)


def test_classification_has_no_other_numbers() -> None:
    one = pb.Evaluation(examples=9, loss=0.5, accuracy=0.75)
    sent = pb.ClientMetrics(downloaded=one, personalised=one)
    check_metrics(sent, globally=False, score=Score())
    assert score_of(one, Score()) == 0.75
    sent.downloaded.values["accuracy"] = 1.0
    with pytest.raises(PayloadError, match=r"^metrics\.downloaded\.values: 1, expected none: it is classification$"):
        check_metrics(sent, globally=False, score=Score())


@pytest.mark.parametrize(
    ("prune", "evaluation", "score", "good_enough"),
    [
        (pb.Plan.Prune(accuracy_threshold=0.5), pb.Evaluation(accuracy=0.5), Score(), True),
        (pb.Plan.Prune(accuracy_threshold=0.5), pb.Evaluation(accuracy=0.49), Score(), False),
        (pb.Plan.Prune(accuracy_threshold=0.5), measured(r2=-3.0), R2, True),
        (pb.Plan.Prune(score_threshold=0.5), measured(r2=0.5), R2, True),
        (pb.Plan.Prune(score_threshold=0.5), measured(r2=0.49), R2, False),
        (pb.Plan.Prune(score_threshold=0.0), measured(r2=-0.01), R2, False),
        (pb.Plan.Prune(score_threshold=0.5), measured(mae=0.5), MAE, True),
        (pb.Plan.Prune(score_threshold=0.5), measured(mae=0.51), MAE, False),
        (pb.Plan.Prune(score_threshold=-0.6), measured(), LOSS, False),
    ],
)
def test_a_gate_is_by_the_score_and_in_its_direction(
    prune: pb.Plan.Prune, evaluation: pb.Evaluation, score: Score, good_enough: bool
) -> None:
    assert is_good_enough(prune, evaluation, score) is good_enough
