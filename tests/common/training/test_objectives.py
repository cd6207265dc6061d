"""Objectives against their formulas, and what is refused of one in one line."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn import metrics as sklearn_metrics
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassF1Score
from torchmetrics.regression import MeanAbsoluteError, R2Score

import lotteryfl
from lotteryfl.common.errors import OutputError
from lotteryfl.common.training.dpsgd import ExamplePrivacy, train_privately
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.gradients import mean_gradients
from lotteryfl.common.training.loop import train
from lotteryfl.common.training.measured import Evaluated
from lotteryfl.common.training.metrics import Metrics
from lotteryfl.common.training.objective import Objective, score_of
from lotteryfl.common.training.objectives import Classification, HuggingFace, LanguageModelling, Regression
from lotteryfl.common.training.recipe import Recipe, TrainingSettings
from lotteryfl.common.training.score import Score
from tests.support.objectivetasks import IGNORED, PROBLEMS, ObjectiveTask, Tagger, mlp

OWN = sorted(PROBLEMS.keys() - {"classification", "hugging face"})
"""Those that are not measured as classification is."""


def problem(name: str) -> tuple[nn.Module, Any, Objective]:
    torch.manual_seed(1)
    return PROBLEMS[name].model(), PROBLEMS[name].data(3), PROBLEMS[name].objective


def expected_values(name: str, outputs: Tensor, truth: Tensor) -> dict[str, float]:
    """The metrics over all examples at once, by scikit-learn and numpy."""
    if name in ("regression", "huber"):
        predicted, true = outputs.reshape(len(truth), -1).numpy(), truth.reshape(len(truth), -1).numpy()
        return {
            "r2": float(sklearn_metrics.r2_score(true, predicted)),
            "mae": float(np.abs(true - predicted).mean()),
            "rmse": float(np.sqrt(((true - predicted) ** 2).mean())),
        }
    if name == "language modelling":
        counted = truth != IGNORED
        return {"perplexity": math.exp(F.cross_entropy(outputs[counted], truth[counted]))}
    if name == "dense":
        counted = truth != IGNORED
        labels, found = truth[counted], outputs.argmax(dim=1)[counted]
        jaccard = sklearn_metrics.jaccard_score(labels, found, average="macro")
        return {"iou": float(jaccard), "pixel_accuracy": float((labels == found).double().mean())}
    if name == "binary":
        found, f1 = outputs.flatten() > 0, sklearn_metrics.f1_score(truth, outputs.flatten() > 0)
        auroc = sklearn_metrics.roc_auc_score(truth, outputs.flatten())
        return {"accuracy": float((found == truth).double().mean()), "f1": float(f1), "auroc": float(auroc)}
    precision = sklearn_metrics.average_precision_score(truth, outputs)
    return {"map": float(precision), "f1": float(sklearn_metrics.f1_score(truth, outputs > 0, average="macro"))}


@pytest.mark.parametrize("name", OWN)
def test_what_is_streamed_over_unequal_batches_is_what_all_examples_have(name: str) -> None:
    model, data, objective = problem(name)
    found = evaluate(model, data, batch_size=5, objective=objective)
    assert isinstance(found, Evaluated)
    with torch.no_grad():
        outputs = model.eval()(data[0])
    assert found.examples == len(data[0]) == 22
    assert found.loss == pytest.approx(float(objective.loss(outputs, data)), rel=1e-5)
    # Curves are at 200 thresholds: off by what lies between two of them.
    assert found.values == pytest.approx(expected_values(name, outputs, data[1]), rel=1e-4, abs=0.02)


@pytest.mark.parametrize("name", OWN)
def test_metrics_grow_with_no_example_and_begin_anew(name: str) -> None:
    model, data, objective = problem(name)
    once = objective.metrics()

    class Kept(type(objective)):  # type: ignore[misc]
        """Hands out the same metrics every time."""

        def metrics(self) -> Mapping[str, Metric]:
            return once

    same = Kept.__new__(Kept)
    same.__dict__.update(objective.__dict__)
    first = evaluate(model, data, batch_size=5, objective=same)
    assert evaluate(model, data, batch_size=5, objective=same) == first
    outputs, sizes = model(data[0]).detach(), []
    for _ in range(2):
        objective.update(once, outputs, data)
        sizes.append(sum(torch.as_tensor(state).numel() for m in once.values() for state in m.metric_state.values()))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_loss_of_a_ready_one_is_the_mean_of_its_examples_own(name: str) -> None:
    model, _, objective = problem(name)
    train_data = ObjectiveTask(name).client_data(3).train
    whole = mean_gradients(model, train_data, objective=objective)
    ones = mean_gradients(model, train_data, objective=objective, batch_size=1)
    assert whole.keys() == ones.keys() != set()
    for key, gradient in whole.items():
        torch.testing.assert_close(ones[key], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_ready_one_learns(name: str) -> None:
    model, _, objective = problem(name)
    data = ObjectiveTask(name).client_data(3).train
    before = evaluate(model, data, objective=objective).loss
    result = train(model, data, epochs=20, lr=0.05, batch_size=4, objective=objective)
    assert (result.examples, result.steps) == (9, 60)
    assert evaluate(model, data, objective=objective).loss < before


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_ready_one_trains_by_dp_sgd(name: str) -> None:
    model, _, objective = problem(name)
    settings = TrainingSettings(lr=0.05, batch_size=4)
    data = ObjectiveTask(name).client_data(3).train
    result = train_privately(model, data, Recipe(settings, 2), ExamplePrivacy(1.0, 0.1), objective=objective)
    assert math.isfinite(result.loss)


def test_classification_is_measured_as_without_an_objective() -> None:
    model, data, objective = problem("classification")
    plain, weighted = evaluate(model, data), evaluate(model, data, objective=objective)
    assert isinstance(weighted, Metrics)
    assert (plain.accuracy, plain.macro_recall) == (weighted.accuracy, weighted.macro_recall)
    assert evaluate(model, data, objective=Classification()) == plain
    with torch.no_grad():
        losses = F.cross_entropy(model(data[0]), data[1], label_smoothing=0.1, reduction="none")
    assert weighted.loss == pytest.approx(float((losses * torch.tensor([1.0, 2, 3])[data[1]]).mean()))


def test_classification_with_metrics_of_ones_own_has_those() -> None:
    class Mine(Classification):
        score = "f1"

        def metrics(self) -> Mapping[str, Metric]:
            return {"f1": MulticlassF1Score(3)}

    model, data, _ = problem("classification")
    found = evaluate(model, data, objective=Mine(), batch_size=5)
    assert isinstance(found, Evaluated)
    predicted = model(data[0]).argmax(dim=1)
    assert found.values == {"f1": pytest.approx(sklearn_metrics.f1_score(data[1], predicted, average="macro"))}
    assert score_of(Mine()) == Score("f1", own=True)


def test_labels_that_are_the_tokens_are_held_to_what_comes_before_them() -> None:
    torch.manual_seed(1)
    tokens, labels = PROBLEMS["language modelling"].data(0)
    model = Tagger()
    shifted = evaluate(model, (tokens, tokens), objective=LanguageModelling(shift=True))
    assert shifted == evaluate(model, (tokens, labels), objective=LanguageModelling())


def test_a_language_model_of_hugging_faces_form_has_no_mean_over_examples() -> None:
    objective = HuggingFace(LanguageModelling(shift=True))
    assert score_of(objective) == Score("perplexity", higher_is_better=False, own=True)
    with pytest.raises(OutputError, match=r"needs a loss that is a mean over examples, and HuggingFace does not say"):
        mean_gradients(mlp(2), {"x": torch.zeros(3, 6)}, objective=objective)


def test_few_examples_have_a_finite_r2() -> None:
    model, (inputs, labels), objective = problem("regression")
    found = evaluate(model, (inputs[:1], labels[:1]), objective=objective)
    assert isinstance(found, Evaluated)
    assert found.values["r2"] == 0


class Mine(Objective):
    """With what a user might get wrong."""

    mean_over_examples = True

    def __init__(self, metrics: Any = None, score: str = "loss", result: Any = None) -> None:
        self._metrics = metrics or {}
        self.score = score
        self._result = result

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        error: Tensor = (outputs.squeeze(1) - batch[1]).square().mean()
        return error if self._result is None else self._result

    def metrics(self) -> Any:
        return self._metrics

    def update(self, metrics: Mapping[str, Metric], outputs: Any, batch: Any) -> None:
        for metric in metrics.values():
            metric.update(outputs.squeeze(1))


def test_a_direction_that_is_not_given_is_the_metrics_own() -> None:
    assert score_of(Mine({"mae": MeanAbsoluteError()}, "mae")) == Score("mae", higher_is_better=False, own=True)
    assert score_of(Mine({"fit": R2Score()}, "fit")) == Score("fit", higher_is_better=True, own=True)
    assert score_of(Mine()) == Score("loss", higher_is_better=False, own=True)
    assert score_of(None) == score_of(Classification()) == Score()


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Mine({"mae": MeanAbsoluteError()}, "r2"), r"Mine\.score = 'r2': expected one of its metrics: mae, loss$"),
        (Mine({"R2": R2Score()}), r"Mine\.metrics\(\): 'R2': expected a letter and up to 63"),
        (Mine({"loss": R2Score()}), r"Mine\.metrics\(\): 'loss': is taken"),
        (Mine({f"m{n}": R2Score() for n in range(33)}), r"Mine\.metrics\(\) returned 33: expected at most 32$"),
        (Mine({"mae": F.l1_loss}), r"Mine\.metrics\(\): mae is a function: expected a torchmetrics\.Metric$"),
        (Mine([R2Score()]), r"Mine\.metrics\(\) returned a list of 1: expected a dict of torchmetrics by name$"),
        (Mine({"mean": MeanMetric()}, "mean"), r"Mine\.higher_is_better is missing: mean does not say which way"),
    ],
)
def test_what_an_objective_must_not_say_of_itself(objective: Objective, message: str) -> None:
    with pytest.raises(OutputError, match=f"^{message}"):
        score_of(objective)


class Whole(MeanMetric):
    def compute(self) -> Tensor:
        return torch.ones(3)


class Endless(MeanMetric):
    def compute(self) -> Tensor:
        return torch.tensor(math.inf)


class Broken(MeanMetric):
    def compute(self) -> Tensor:
        raise ValueError("too few\nexamples")


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Mine({"m": Whole()}), r"Mine: the metric m is a tensor of shape \(3,\): expected one number$"),
        (Mine({"m": Endless()}), r"Mine: the metric m = inf: expected a finite number$"),
        (Mine({"m": Broken()}), r"Mine: the metric m: too few$"),
        (Mine(result=torch.ones(3)), r"Mine\.loss returned a tensor of shape \(3,\): expected a tensor of shape \(\)$"),
        (Mine(result=0.5), r"Mine\.loss returned a float: expected a tensor of shape \(\)$"),
        (Regression(), r"the model's output has shape \(22, 1\), the labels \(22, 3\): expected the same$"),
        (HuggingFace(), r"HuggingFace: a batch is a tuple: expected a dict, for model\(\*\*batch\)$"),
        (LanguageModelling(), r"the model's output has logits for positions of shape \(22,\), the labels have shape"),
    ],
)
def test_what_does_not_go_together_is_one_line(objective: Objective, message: str) -> None:
    model, (inputs, labels), _ = problem("regression")
    if not isinstance(objective, Mine):
        labels = labels[:, None].expand(-1, 3)
    with pytest.raises(OutputError, match=f"^{message}"):
        evaluate(model, (inputs, labels), objective=objective)


def test_dicts_that_do_not_fit_are_named_by_their_keys() -> None:
    class Some(nn.Module):
        def forward(self, x: Tensor, *, loss: Tensor | None = None) -> dict[str, Tensor | None]:
            return {"logits": x, "loss": None if loss is None else loss.mean()}

    inputs = torch.zeros(4, 2)
    with pytest.raises(OutputError, match=r"^HuggingFace: the model returned no loss for a batch with the keys x$"):
        evaluate(Some(), {"x": inputs}, objective=HuggingFace())
    with pytest.raises(OutputError, match=r"^HuggingFace: 'labels' is not among a batch's keys: x, loss$"):
        evaluate(Some(), {"x": inputs, "loss": inputs}, objective=HuggingFace(Regression()))
    with pytest.raises(OutputError, match=r"^a batch is a dict with the keys x, y: expected a pair"):
        evaluate(mlp(2), [{"x": 1.0, "y": 2.0}])


def test_a_loss_beside_an_objective_is_refused() -> None:
    model, data, objective = problem("regression")
    with pytest.raises(ValueError, match=r"^loss and objective are both given: expected one of them$"):
        train(model, data, epochs=1, lr=0.1, loss=F.mse_loss, objective=objective)


@pytest.mark.parametrize("use", [train_privately, mean_gradients])
def test_who_needs_a_mean_over_examples_refuses_other_losses_by_name(use: Any) -> None:
    class Sum(Mine):
        mean_over_examples = False

    model, data, _ = problem("regression")
    more = (Recipe(TrainingSettings(), 1), ExamplePrivacy(1.0, 0.0)) if use is train_privately else ()
    with pytest.raises(OutputError, match=r"needs a loss that is a mean over examples, and Sum does not say that its"):
        use(model, data, *more, objective=Sum())


def test_they_are_public() -> None:
    assert lotteryfl.Objective is Objective
    assert lotteryfl.objectives.Regression is Regression
    assert all(issubclass(getattr(lotteryfl.objectives, name), Objective) for name in lotteryfl.objectives.__all__)
