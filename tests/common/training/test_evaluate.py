import dataclasses
import warnings

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from lotteryfl.common.pruning.parameters import digest, named_masks, named_tensors
from lotteryfl.common.pruning.prune import prune_fixed_amount
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.loop import train
from lotteryfl.common.training.metrics import classification_metrics
from tests.support.architectures import CLASSES, build
from tests.support.separable import labels_for, problem


@settings(deadline=None, max_examples=100)
@given(pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_metrics_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (list(column) for column in zip(*pairs, strict=True))
    ours = classification_metrics(torch.tensor(predicted), torch.tensor(truth), loss=0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes that were predicted but never occur
        expected = {
            "examples": len(pairs),
            "loss": 0.25,
            "accuracy": sklearn_metrics.accuracy_score(truth, predicted),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(truth, predicted),
        }
    for average in ("micro", "macro"):
        for score in ("precision", "recall"):
            function = getattr(sklearn_metrics, f"{score}_score")
            expected[f"{average}_{score}"] = function(truth, predicted, average=average, zero_division=0)
    assert dataclasses.asdict(ours) == pytest.approx(expected)


def test_evaluation_weights_by_examples_and_needs_no_gradient() -> None:
    model, (inputs, labels) = problem(examples=10)
    tracked: list[bool] = []
    model[3].register_forward_hook(lambda _, inputs, output: tracked.append(output.requires_grad))
    result = evaluate(model, (inputs, labels), batch_size=4)
    assert tracked == [False] * 3
    logits = model.eval()(inputs)
    assert result.loss == pytest.approx(F.cross_entropy(logits, labels).item())
    assert result.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert result.examples == 10


def test_evaluation_changes_nothing() -> None:
    model, inputs = build("batch norm")
    prune_fixed_amount(model, 0.4, verbose=False)
    before = digest(named_tensors(model)), digest(named_masks(model))
    evaluate(model, (inputs, labels_for(inputs)))
    assert (digest(named_tensors(model)), digest(named_masks(model))) == before


def test_p20_evaluation_sees_the_mask() -> None:
    """P20: a mask that prunes everything leaves the biases alone to decide."""
    model, data = problem()
    train(model, data, epochs=20, lr=0.1)
    assert evaluate(model, data).accuracy > 0.8
    prune_fixed_amount(model, 1.0, verbose=False)
    assert evaluate(model, data).accuracy == 1 / CLASSES


def test_empty_data_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^data: no examples$"):
        evaluate(problem()[0], (torch.zeros(0, 6), torch.zeros(0)))
