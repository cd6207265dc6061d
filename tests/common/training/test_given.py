"""What people give to `train` and `evaluate`: it works, or is refused in one line."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from lotteryfl.common.pruning.parameters import digest, named_tensors
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.gradients import mean_gradients
from lotteryfl.common.training.loop import train
from tests.support.separable import problem

INPUTS, LABELS = problem()[1]


class Arrays(Dataset[Any]):
    """Examples as numpy has them after a flip, big-endian."""

    def __len__(self) -> int:
        return len(INPUTS)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        flipped = np.ascontiguousarray(INPUTS[index].numpy()[::-1]).astype(">f4")
        return flipped[::-1], LABELS[index].numpy().astype(">i8")


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(zip(INPUTS, LABELS, strict=True))


def trained(data: Any) -> str:
    model, _ = problem()
    train(model, data, epochs=2, lr=0.1)
    return digest(named_tensors(model))


PAIRS: dict[str, Any] = {
    "list": [INPUTS, LABELS],
    "numpy": (INPUTS.numpy(), LABELS.numpy()),
    "numpy list": [INPUTS.numpy(), LABELS.numpy().astype(np.uint8)],
    "backwards": (INPUTS.flip(0).numpy()[::-1], LABELS.flip(0).numpy()[::-1]),
    "big-endian": (INPUTS.numpy().astype(">f8"), LABELS.numpy().astype(">i2")),
    "nested lists": (INPUTS.tolist(), LABELS.tolist()),
    "lists of tensors": (list(INPUTS), list(LABELS)),
    "lists of arrays": (list(INPUTS.numpy()[:, ::-1][:, ::-1]), list(LABELS.numpy())),
    "of inference mode": (INPUTS, LABELS),
}
with torch.inference_mode():
    PAIRS["of inference mode"] = (INPUTS.clone(), LABELS.clone())


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_all_kinds_train_to_the_same_bits(name: str) -> None:
    assert trained(PAIRS[name]) == trained((INPUTS, LABELS))
    model, _ = problem()
    assert evaluate(model, PAIRS[name]) == evaluate(model, (INPUTS, LABELS))


@pytest.mark.parametrize("data", [Arrays(), list(zip(INPUTS, LABELS, strict=True))], ids=["arrays", "list of examples"])
def test_data_sets_of_arrays_and_lists_of_examples_train_to_the_same_bits(data: Any) -> None:
    class Tensors(Dataset[Any]):
        __len__ = Arrays.__len__

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            return INPUTS[index], LABELS[index]

    assert trained(data) == trained(Tensors())


LOADER = DataLoader(TensorDataset(INPUTS, LABELS))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            LOADER,
            TypeError,
            r"a DataLoader: expected its data set \(loader\.dataset\)",
        ),
        (
            Stream(),
            TypeError,
            r"Stream has no length: expected a map-style data set, or an iterable one's steps_per_epoch$",
        ),
        (iter([1]), TypeError, r"list_iterator can be read only once: expected an iterable data set"),
        (INPUTS, TypeError, r"Tensor: expected a map-style data set, or a pair \(inputs, labels\)"),
        ({"x": INPUTS}, TypeError, r"dict: expected a map-style data set"),
        ((INPUTS, LABELS, LABELS), TypeError, r"a tuple of 3: expected a pair \(inputs, labels\)"),
        ((INPUTS, "labels"), TypeError, r"labels are str: expected a tensor, a numpy array or a list"),
        ((INPUTS, torch.tensor(1)), ValueError, r"inputs have shape \(40, 6\), labels \(\): expected a row"),
        ((INPUTS, np.array(["a"] * 40)), ValueError, r"labels: can't convert np.ndarray of type numpy.str_"),
        (([[1.0], [1.0, 2.0]], [0, 1]), ValueError, r"inputs: setting an array element"),
        (([], []), ValueError, r"no examples"),
        ((INPUTS, LABELS[:3]), ValueError, r"40 inputs but 3 labels"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(data: Any, error: type[Exception], message: str) -> None:
    for use in (lambda: train(problem()[0], data, epochs=1, lr=0.1), lambda: evaluate(problem()[0], data)):
        with pytest.raises(error, match=rf"^data: {message}"):
            use()


def test_a_model_without_a_column_for_each_class_is_refused() -> None:
    labels = (INPUTS[:, 0] > 0).long()

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits.squeeze(1), truth.float())

    model = nn.Linear(6, 1)
    assert train(model, (INPUTS, labels), epochs=1, lr=0.1, loss=loss).steps == 2  # its loss is its own
    with pytest.raises(ValueError, match=r"output has shape \(40, 1\): expected logits of shape \(examples, classes\)"):
        evaluate(model, (INPUTS, labels), loss=loss)
    with pytest.raises(ValueError, match=r"output has shape \(40, 2, 3\): expected logits"):
        evaluate(nn.Sequential(nn.Linear(6, 6), nn.Unflatten(1, (2, 3))), (INPUTS, labels))
    with pytest.raises(ValueError, match=r"output has type tuple: expected logits"):
        evaluate(nn.LSTM(6, 3), (INPUTS, labels))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_where_gradients_are_off_is_refused_in_one_line(mode: Any) -> None:
    model, data = problem()
    with mode():
        for use in (lambda: train(model, data, epochs=1, lr=0.1), lambda: mean_gradients(model, data)):
            with pytest.raises(ValueError, match=r"^gradients are off inside torch\.no_grad\(\)"):
                use()
