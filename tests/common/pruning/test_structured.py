"""Smaller models: whatever is taken out, the outputs stay; and what cannot be followed is named."""

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.models import create_model
from lotteryfl.common.pruning.prune import make_permanent
from lotteryfl.common.pruning.rows import prune_rows
from lotteryfl.common.pruning.structured.resizing import Smaller, load_structured, smaller


class Block(nn.Module):
    """Branch and shortcut are added, as in a residual network; the last maps are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 6, 3, padding=1)
        self.outer = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.norm(self.stem(images)))
        maps = torch.relu(maps + self.outer(torch.relu(self.inner(maps))))
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 9), nn.GELU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 4))


def flattened() -> nn.Module:
    """A norm of numbers of which several are of one channel."""
    return nn.Sequential(nn.Conv2d(3, 5, 5), nn.Flatten(), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 4))


def convolutional() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.Sigmoid(), nn.Conv2d(7, 6, 2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Dropout(), nn.Flatten(), nn.Linear(6, 4)),
    )


MODELS = {"mlp": mlp, "convolutional": convolutional, "block": Block}


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def made(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A model whose norms have measured something, too."""
    torch.manual_seed(seed)
    model = build()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 1:
            nn.init.uniform_(tensor, 0.1, 1.0)
    return model.eval()


def zero_rows(model: nn.Module, name: str, rows: list[int], *, bias: bool = False) -> None:
    with torch.no_grad():
        model.get_parameter(f"{name}.weight")[rows] = 0
        if bias:
            model.get_parameter(f"{name}.bias")[rows] = 0


def without(model: nn.Module) -> tuple[nn.Module, Smaller]:
    found = smaller(model, (images(2),), {})
    small = copy.deepcopy(model)
    load_structured(small, found.tensors)
    torch.testing.assert_close(small(images(5, seed=1)), model(images(5, seed=1)), rtol=1e-4, atol=1e-5)
    return small, found


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(sorted(MODELS)), st.integers(0, 2**16), st.data())
def test_outputs_stay_whatever_is_pruned(name: str, seed: int, data: st.DataObject) -> None:
    model = made(MODELS[name], seed)
    for weight in [each for each in model.parameters() if each.dim() > 1][:-1]:
        rows = data.draw(st.lists(st.integers(0, len(weight) - 1), unique=True))
        places = data.draw(st.sampled_from([slice(None), slice(0, 1)]))  # whole rows, or of each what reads one channel
        with torch.no_grad():
            weight[rows, places] = 0
    try:
        small, found = without(model)
    except LotteryFLError as error:
        if "no row or filter can be taken out" not in str(error):
            raise
        return
    assert found.rows > 0
    assert sum(each.numel() for each in small.parameters()) < sum(each.numel() for each in model.parameters())


def test_what_a_pruned_row_always_gives_is_in_the_next_bias() -> None:
    model = made(mlp)
    zero_rows(model, "1", [2, 5])
    small, found = without(model)
    assert found.rows == 2
    sizes = {name: list(tensor.shape) for name, tensor in small.state_dict().items()}
    assert (sizes["1.weight"], sizes["1.bias"], sizes["3.weight"]) == ([7, 108], [7], [7, 7])
    first, second = small.get_submodule("1"), small.get_submodule("3")
    assert (first.out_features, second.in_features) == (7, 7)
    assert not torch.equal(second.get_parameter("bias"), model.get_parameter("3.bias"))


def test_what_nobody_reads_goes_too_and_a_row_stays() -> None:
    model = made(mlp)
    zero_rows(model, "3", list(range(7)))
    small, found = without(model)
    assert found.rows == 8 + 6
    assert small.get_parameter("1.weight").shape == (1, 108)
    assert small.get_parameter("3.weight").shape == (1, 1)


def test_a_filter_whose_bias_meets_a_border_stays() -> None:
    model = made(Block)
    zero_rows(model, "inner", [1, 4])
    with pytest.raises(LotteryFLError, match=r"^no row or filter can be taken out: each gives something that"):
        smaller(model, (images(2),), {})
    zero_rows(model, "inner", [4], bias=True)
    small, found = without(model)
    assert found.rows == 1
    assert [small.get_submodule(name).out_channels for name in ("inner", "outer", "stem")] == [5, 8, 8]


def test_what_is_added_goes_where_both_can() -> None:
    model = made(Block)
    with torch.no_grad():
        model.get_parameter("norm.bias").sub_(9)  # so that ReLU gives nothing where the stem does not
    zero_rows(model, "stem", [0, 3])
    zero_rows(model, "outer", [3, 5], bias=True)
    small, found = without(model)
    assert found.rows == 2  # the third channel of stem and outer
    assert small.get_submodule("norm").num_features == small.get_submodule("head").in_features == 7


@pytest.mark.parametrize("name", ["lenet-300-100", "cnn", "vgg11", "resnet18"])
def test_the_built_in_models_can_be_followed(name: str) -> None:
    torch.manual_seed(0)
    dataset, shape = ("mnist", (2, 1, 28, 28)) if name in ("lenet-300-100", "cnn") else ("cifar10", (2, 3, 32, 32))
    model = create_model(dataset, name).eval()
    prune_rows(model, 0.4)
    make_permanent(model)
    found = smaller(model, (torch.randn(shape),), {})
    load_structured(small := create_model(dataset, name).eval(), found.tensors)
    inputs = torch.randn(3, *shape[1:])
    torch.testing.assert_close(small(inputs), model(inputs), rtol=1e-4, atol=1e-6)
    assert found.rows > 30


class Twice(nn.Module):
    """One layer at two places, which it would have to fit both."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(108, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.middle(torch.relu(self.middle(torch.relu(self.first(inputs.flatten(1))))))
        logits: Tensor = self.last(hidden)
        return logits


@pytest.mark.parametrize(
    ("build", "layer", "message"),
    [
        (
            lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(128, 4)),
            "0",
            r"^0: 2 of its 8 rows give the same for every input, and go through group_norm, where they cannot be ",
        ),
        (flattened, "0", r"^0: 2 of its 5 rows give the same for every input, and go through batch_norm, where they"),
        (Twice, "first", r"^first: 2 of its 6 rows give the same for every input, and go through linear, where they"),
    ],
)
def test_what_cannot_be_followed_is_named(build: Callable[[], nn.Module], layer: str, message: str) -> None:
    model = made(build)
    zero_rows(model, layer, [1, 2])
    with pytest.raises(LotteryFLError, match=message) as found:
        smaller(model, (images(2),), {})
    assert "\n" not in str(found.value)


class Asks(nn.Module):
    """Does what depends on the values it gets."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs if inputs.sum() > 0 else -inputs


def test_a_model_that_decides_by_its_inputs_is_refused_in_one_line() -> None:
    with pytest.raises(LotteryFLError, match=r"^torch\.export does not take the model: \w+: [^\n]*$"):
        smaller(Asks().eval(), (images(2),), {})


def test_a_tensor_that_is_larger_is_refused() -> None:
    model = mlp()
    with pytest.raises(ValueError, match=r"^'1\.weight' has shape \[10, 108\], expected at most \[9, 108\]$"):
        load_structured(model, {**model.state_dict(), "1.weight": torch.zeros(10, 108)})
