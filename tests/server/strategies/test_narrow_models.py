"""Models whose own tensors are narrower than what a strategy trains beside them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.support.bench import Bench, TinyTask, tiny_experiment
from tests.support.damage import problems
from tests.support.playing import model, play, settings

Drive = Callable[..., Bench]


class Narrow(nn.Module):
    """Takes the inputs in a dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.to(self._dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "trained"), [("fedpm", "probability:1.weight"), ("spafl", "threshold:1.weight")])
def test_what_is_trained_beside_a_narrow_model_moves(drive: Drive, name: str, trained: str, dtype: torch.dtype) -> None:
    def net() -> nn.Module:
        return nn.Sequential(Narrow(dtype), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)

    bench = play(drive(tiny_experiment(**settings(name), rounds=1), TinyTask(net)), 2)
    assert not torch.equal(model(bench)[trained], model(bench, 0)[trained])
    assert problems(bench.path) == []
