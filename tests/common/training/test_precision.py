"""In what a training computes, and what is left of it afterwards."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.pruning.parameters import digest, named_tensors
from lotteryfl.common.pruning.prune import prune_fixed_amount
from lotteryfl.common.training.dpsgd import ExamplePrivacy, train_privately
from lotteryfl.common.training.evaluation import evaluate
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.objective import Labelled
from lotteryfl.common.training.precision import check_compiler
from lotteryfl.common.training.recipe import Recipe, TrainingSettings
from lotteryfl.common.training.schedules import Schedule
from tests.support.separable import problem


class Convolutional(nn.Module):
    """Keeps what its forward has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.head = nn.Linear(16, 2)
        self.seen: list[tuple[torch.dtype, bool]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.conv(inputs)
        self.seen.append((features.dtype, self.conv.weight.is_contiguous(memory_format=torch.channels_last)))
        outputs: Tensor = self.head(features.relu().flatten(1))
        return outputs


def images() -> tuple[Tensor, Tensor]:
    inputs = torch.randn(12, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs.mean((1, 2, 3)) > 0).long()


def trained(**settings: Any) -> Convolutional:
    torch.manual_seed(0)
    model = Convolutional()
    prune_fixed_amount(model, 0.3, verbose=False)
    train_by_recipe(model, images(), Recipe(TrainingSettings(batch_size=4, **settings), 2))
    return model


def test_bfloat16_is_what_is_computed_in_and_never_what_is_kept() -> None:
    model, usual = trained(precision="bfloat16"), trained()
    assert {dtype for dtype, _ in model.seen} == {torch.bfloat16}
    for name, tensor in named_tensors(model).items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, named_tensors(usual)[name], rtol=0.1, atol=0.05)
    model.seen.clear()
    evaluate(model, images())
    assert {dtype for dtype, _ in model.seen} == {torch.float32}


def test_channels_last_is_a_memory_format_of_training_alone() -> None:
    model, usual = trained(channels_last=True), trained()
    assert {last for _, last in model.seen} == {True}
    assert {last for _, last in usual.seen} == {False}
    for name, tensor in named_tensors(model).items():
        assert tensor.is_contiguous()
        torch.testing.assert_close(tensor, named_tensors(usual)[name], rtol=1e-4, atol=1e-5)


def test_labels_are_smoothed_in_training_alone() -> None:
    model, data = problem()
    expected = nn.functional.cross_entropy(model.eval()(data[0]), data[1], label_smoothing=0.3)
    model.get_submodule("2").p = 0.0  # type: ignore[assignment]
    result = train_by_recipe(model, data, Recipe(TrainingSettings(batch_size=40, lr=1e-30, label_smoothing=0.3), 1))
    assert result.loss == pytest.approx(expected.item())
    assert evaluate(model, data).loss < result.loss
    objective = Labelled(lambda outputs, _: outputs.sum())
    with pytest.raises(ValueError, match=r"^training\.label_smoothing = 0\.3: this training has a loss of its own"):
        train_by_recipe(model, data, Recipe(TrainingSettings(label_smoothing=0.3), 1), objective=objective)


def test_examples_with_privacy_are_smoothed_moved_and_averaged_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    settings = TrainingSettings(
        batch_size=4,
        label_smoothing=0.1,
        augment=("crop", "flip"),
        ema=0.5,
        clip_grad_norm=1.0,
        local_schedule=Schedule(kind="cosine"),
        optimizer="NAdam",
    )
    result = train_privately(model, images(), Recipe(settings, 0, steps=5), ExamplePrivacy(1.0, 0.5))
    assert result.steps == 5
    assert all(bool(tensor.isfinite().all()) for tensor in named_tensors(model).values())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles by g++")
def test_compiled_code_is_the_same_whatever_was_compiled_before() -> None:
    def after(sizes: tuple[int, ...]) -> str:
        for size in sizes:
            model, (inputs, labels) = problem()
            train_by_recipe(model, (inputs[:size], labels[:size]), Recipe(TrainingSettings(compile=True), 1))
        return digest(named_tensors(model))

    assert after((40, 21)) == after((5, 21)) == after((21,))
    usual, (inputs, labels) = problem()
    train_by_recipe(usual, (inputs[:21], labels[:21]), Recipe(TrainingSettings(), 1))
    assert after((21,)) != digest(named_tensors(usual)), "nothing was compiled"


def test_a_worker_that_cannot_compile_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        ExperimentError, match=r"^training\.compile = True: torch\.compile cannot be used here: [^\n]+$"
    ):
        check_compiler(TrainingSettings(compile=True), torch.device("cpu"))
