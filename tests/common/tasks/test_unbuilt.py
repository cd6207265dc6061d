"""Examples whose inputs are made when they are asked for: the same bits in any part, and none that nobody asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lotteryfl.client.work.keptdata import KeptData
from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.tasks.builtin import Examples
from lotteryfl.common.tasks.parts import part_of
from lotteryfl.common.training.structure import Unbuilt
from lotteryfl.server.results.holdings import holdings
from tests.support.bench import CPU, TinyTask, simulated, tiny_experiment


class Recorded(TinyTask):
    """TinyTask's examples, unbuilt; `made` has, by part, how many inputs were made at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, list[int]] = {"train": [], "validation": [], "test": []}

    def client_data(self, client: int) -> ClientData:
        return ClientData(
            **{name: self._unbuilt(name, part) for name, part in vars(super().client_data(client)).items()}
        )

    def global_test(self, examples: int) -> Unbuilt:
        raise TaskError("none")

    def _unbuilt(self, name: str, part: TensorDataset) -> Unbuilt:
        inputs, labels = part.tensors

        def made(places: Tensor) -> Tensor:
            self.made[name].append(len(places))
            return inputs[places]

        return Unbuilt(torch.arange(len(labels)), labels, made)


@pytest.mark.parametrize("degrees", [0.0, 90.0, 30.0])
@pytest.mark.parametrize(
    "index",
    [3, -1, slice(2, 9, 3), [5, 0, 5], np.array([1, 8]), torch.tensor([7]), torch.arange(10) > 6],
    ids=["one", "the last", "slice", "list", "array", "tensor", "mask"],
)
def test_any_part_has_the_bits_of_the_whole(degrees: float, index: Any) -> None:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 3, 8, 8), generator=random, dtype=torch.uint8)
    mean, std = torch.rand(2, 3, 1, 1, generator=random) * 255
    stored = Examples(pixels, torch.arange(40) % 7, mean, std)
    chosen = np.random.default_rng(0).permutation(40)[:10]
    unbuilt, built = stored.dataset(chosen, degrees), stored.dataset(chosen, degrees)
    inputs, labels = built.tensors
    assert labels.tolist() == (chosen % 7).tolist()
    for data in (unbuilt, built):
        assert torch.equal(data[index][0], inputs[index])
        assert torch.equal(data[index][1], labels[index])
    if not degrees:
        assert torch.equal(inputs, (pixels[torch.from_numpy(chosen)].float() - mean) / std)


def test_it_is_read_as_any_other_data_set() -> None:
    data = Recorded().client_data(0).test
    batches = [inputs for inputs, _ in DataLoader(data, batch_size=4)]
    assert torch.equal(torch.cat(batches), data.tensors[0])  # type: ignore[attr-defined]


def run_of(path: Path, task: TinyTask, experiment: Experiment) -> str:
    with simulated(path, experiment, task) as run:
        return run.database.get("model_sha256") + run.tickets_sha256()


def test_of_what_is_drawn_nothing_else_is_made_and_the_run_has_the_same_bits(tmp_path: Path) -> None:
    experiment = tiny_experiment(rounds=1, clients_per_round=4, evaluation={"test_examples": 2})
    task = Recorded()
    assert run_of(tmp_path / "unbuilt", task, experiment) == run_of(tmp_path / "built", TinyTask(), experiment)
    # A client's first 8 are looked at, in either round; there are the 2 that are drawn, and, in the last one, all 9.
    assert sorted(task.made["test"]) == 4 * [2] + 8 * [8] + 4 * [9]
    assert sorted(task.made["train"])[-1] == 11


def test_labels_are_counted_without_inputs() -> None:
    task = Recorded()
    held = holdings(task, clients=3)
    assert held.sizes.tolist() == [[8, 6, 9], [9, 6, 9], [10, 6, 9]]
    assert held.counts.tolist() == holdings(TinyTask(), clients=3).counts.tolist()
    assert not any(task.made.values())


@pytest.mark.parametrize(("room", "largest"), [(0, 0), (1, 1), (10**6, 9)])
def test_it_is_kept_built_and_measured_unbuilt(room: int, largest: int) -> None:
    task = Recorded()
    kept = KeptData(task, CPU, room)
    data = kept.of(0)
    assert max(task.made["test"], default=0) == largest
    assert isinstance(data.test, TensorDataset)
    assert torch.equal(data.test.tensors[0], TinyTask().client_data(0).test.tensors[0])  # type: ignore[attr-defined]
    assert kept.nbytes == (23 * (6 * 4 + 8) if room > 1 else 0)


def test_labels_of_a_classifier_are_integers() -> None:
    def of(labels: Tensor) -> Callable[..., Any]:
        unbuilt = Unbuilt(torch.arange(3), labels, lambda places: places)
        return lambda *, labelled: part_of(unbuilt, "mine", labelled=labelled)

    assert isinstance(of(torch.arange(3))(labelled=True), Unbuilt)
    assert isinstance(of(torch.ones(3))(labelled=False), Unbuilt)
    with pytest.raises(TaskError, match=r"mine: labels are torch\.float32 of shape \(3,\), expected integers"):
        of(torch.ones(3))(labelled=True)
