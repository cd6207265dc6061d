"""Training batches made different: what becomes of images, from which seed, and a task's own function."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.tasks import load_task
from lotteryfl.common.tasks.base import augment_of
from lotteryfl.common.training.augmentation import Augmentation
from lotteryfl.common.training.examples import Batch
from lotteryfl.common.training.loop import train_by_recipe
from lotteryfl.common.training.objective import Labelled
from lotteryfl.common.training.recipe import Recipe, TrainingSettings

CPU = torch.device("cpu")


def images(examples: int = 64, height: int = 16, width: int = 24) -> Tensor:
    """Return images of which no two rows, columns or pixels are alike, and no pixel is 0."""
    return torch.rand(examples, 2, height, width, generator=torch.Generator().manual_seed(0)) + 0.5


def augmented(name: Any, batch: Tensor, seed: int = 0) -> Tensor:
    given = Batch((batch, torch.arange(len(batch))), len(batch))
    (((found, labels), _),) = Augmentation([name], None, seed, CPU).of(iter([given]))
    assert torch.equal(labels, torch.arange(len(batch)))
    assert (found.shape, found.dtype) == (batch.shape, batch.dtype)
    result: Tensor = found
    return result


def test_a_crop_moves_every_image_by_up_to_an_eighth() -> None:
    batch = images()
    moves = set()
    for before, after in zip(batch, augmented("crop", batch), strict=True):
        found = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-3, 4)
            if torch.equal(
                after, torch.roll(nn.functional.pad(before, (3, 3, 2, 2)), (down, right), (1, 2))[:, 2:-2, 3:-3]
            )
        ]
        assert len(found) == 1
        moves.update(found)
    assert len(moves) > 20, "each image has a move of its own"


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    batch = images()
    after = augmented("flip", batch)
    mirrored = [torch.equal(one, other.flip(2)) for one, other in zip(after, batch, strict=True)]
    kept = [torch.equal(one, other) for one, other in zip(after, batch, strict=True)]
    assert all(one != other for one, other in zip(mirrored, kept, strict=True))
    assert 16 < sum(mirrored) < 48


def test_a_zoom_fills_every_image_with_a_part_of_its_own() -> None:
    """Of an image whose pixels say where they are: how much of it is seen, and from where."""
    height, width = 32, 48
    down = (torch.arange(height) / height)[:, None].expand(height, width)
    right = (torch.arange(width) / width).expand(height, width)
    after = augmented("zoom", torch.stack([down, right]).expand(400, 2, height, width).contiguous())
    tall = (after[:, 0, -1, 0] - after[:, 0, 0, 0]) * height / (height - 1)
    wide = (after[:, 1, 0, -1] - after[:, 1, 0, 0]) * width / (width - 1)
    assert float((tall * wide).min()) == pytest.approx(0.08, abs=0.03)
    assert float((tall * wide).mean()) == pytest.approx(0.54, abs=0.08)
    assert 0.7 < float((wide / tall).min()) < 0.85
    assert 1.2 < float((wide / tall).max()) < 1.4
    assert float(after[:, 0, 0, 0].max()) > 0.4
    assert torch.allclose(after[:, 0, :, 0], after[:, 0, :, -1], atol=1e-5), "rows stay rows"


def test_an_erasure_is_a_rectangle_of_a_quarter_of_each_side() -> None:
    batch = images()
    after = augmented("erase", batch)
    gone = after == 0
    assert torch.equal(after[~gone], batch[~gone])
    assert bool((gone.any(3).sum(2) == 4).all())
    assert bool((gone.any(2).sum(2) == 6).all())
    assert len({tuple(place) for place in gone[:, 0].flatten(1).int().argmax(1, keepdim=True).tolist()}) > 20


@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_light_changes_by_up_to_a_fifth_of_each_images_own(name: str) -> None:
    batch = images()
    after = augmented(name, batch)
    shift = (after.mean((1, 2, 3)) - batch.mean((1, 2, 3))) / batch.std((1, 2, 3), correction=0)
    stretch = after.std((1, 2, 3)) / batch.std((1, 2, 3)) - 1
    changed, kept = (shift, stretch) if name == "brightness" else (stretch, shift)
    assert float(kept.abs().max()) < 1e-4
    assert 0.1 < float(changed.abs().max()) < 0.2001
    assert len(changed.unique()) > 60


@pytest.mark.parametrize("name", ["crop", "flip", "zoom", "erase", "brightness", "contrast"])
def test_what_is_drawn_is_the_seeds_alone(name: str) -> None:
    batch = images()
    state = torch.get_rng_state()
    assert torch.equal(augmented(name, batch, 1), augmented(name, batch, 1))
    assert not torch.equal(augmented(name, batch, 1), augmented(name, batch, 2))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_order_of_examples_is_what_it_is_without() -> None:
    seen: list[list[list[int]]] = []
    for names in ((), ("flip", "erase")):
        orders: list[list[int]] = []

        def loss(outputs: Tensor, labels: Tensor, orders: list[list[int]] = orders) -> Tensor:
            orders.append(labels.tolist())
            return outputs.sum()

        model = nn.Sequential(nn.Flatten(), nn.Linear(32, 2))
        data = (torch.ones(10, 2, 4, 4), torch.arange(10))
        train_by_recipe(model, data, Recipe(TrainingSettings(augment=names, batch_size=3), 2), objective=Labelled(loss))
        seen.append(orders)
    assert seen[0] == seen[1]


def test_what_are_no_images_is_refused_in_a_line() -> None:
    settings = TrainingSettings(augment=("flip",))
    with pytest.raises(
        ValueError, match=r"^training\.augment: a batch's inputs are torch\.float32 of shape \(8, 6\): exp"
    ):
        train_by_recipe(nn.Linear(6, 2), (torch.ones(10, 6), torch.zeros(10).long()), Recipe(settings, 1))
    with pytest.raises(TaskError, match=r"^training\.augment = \['flip'\]: of images, and task har has none$"):
        load_task(validate({"task": {"name": "har"}, "training": {"augment": ["flip"]}}, "test"))


OWN = """
import torch
from torch import nn
def model(): return nn.Linear(6, 2)
def client(k, experiment): raise NotImplementedError
"""


def own(folder: Path, code: str, **experiment: Any) -> Any:
    path = folder / "own.py"
    path.write_text(OWN + code)
    return augment_of(load_task(validate({"task": {"name": str(path)}, **experiment}, "test"), [str(path)]))


def test_a_tasks_own_function_gets_batches_and_a_generator_of_the_trainings_seed(tmp_path: Path) -> None:
    code = (
        "def augment(batch, generator):\n"
        "    x, y = batch\n"
        "    return x + torch.rand(x.shape, generator=generator, device=x.device), y\n"
    )
    augment = own(tmp_path, code)
    bits = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        model = nn.Linear(6, 2)
        data = (torch.ones(10, 6), torch.arange(10) % 2)
        train_by_recipe(model, data, Recipe(TrainingSettings(batch_size=10), 1, seed=seed), augment=augment)
        bits.append(model.weight.detach().clone())
    assert torch.equal(bits[0], bits[1])
    assert not torch.equal(bits[0], bits[2])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def augment(batch, generator):\n    return batch[0]\n",
            r"returned Tensor, expected a batch as it got: tuple of 2",
        ),
        ("def augment(batch, generator):\n    1 / 0\n", r"own\.py:7: ZeroDivisionError: division by zero"),
        ("augment = 3\n", r"augment in .*own\.py is int, expected a function"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_a_line(code: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=message) as error:
        own(tmp_path, code)((torch.ones(2, 6), torch.zeros(2)), torch.Generator())
    assert "\n" not in str(error.value)


def test_nobody_mixes_examples_that_are_promised_privacy(tmp_path: Path) -> None:
    code = "def augment(batch, generator):\n    return batch\n"
    with pytest.raises(TaskError, match=r"may put one example into another, and privacy\.dp_sgd bounds"):
        own(tmp_path, code, privacy={"dp_sgd": True})
