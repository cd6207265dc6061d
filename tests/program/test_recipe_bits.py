"""Every option of a recipe: the same bits in one process, in many, and after any interruption."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils.data import TensorDataset

from lotteryfl.common.experiment.experiment import from_json, to_json
from lotteryfl.common.tasks import ClientData
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.store.rundir import RunDirectory
from tests.support.bench import CPU, TinyTask, create, simulated, tiny_experiment

SCHEDULES: dict[str, Any] = {
    "schedule": {"kind": "cosine"},
    "local_schedule": {"kind": "exponential", "gamma": 0.9, "warmup": 1},
}
STEPS: dict[str, Any] = {"nesterov": True, "weight_decay": 0.1, "weight_decay_of": "matrices", "clip_grad_norm": 0.1}
FORWARD: dict[str, Any] = {"precision": "bfloat16", "channels_last": True, "label_smoothing": 0.1, "accumulate": 2}
NAMED: dict[str, Any] = {"optimizer": "NAdam", "optimizer_options": {"betas": [0.8, 0.9]}, "lr": 0.01}
AUGMENT: dict[str, Any] = {"augment": ["crop", "flip", "erase", "brightness", "contrast"]}
SLOW = [pytest.mark.slow, pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles by g++")]


class Images(TinyTask):
    """The bench's task with images for its vectors, and an `augment` of its own."""

    def __init__(self) -> None:
        super().__init__(
            lambda: nn.Sequential(
                nn.Conv2d(1, 4, (2, 2)), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 3)
            )
        )

    def client_data(self, client: int) -> ClientData:
        data = super().client_data(client)
        parts = [part.tensors for part in (data.train, data.validation, data.test) if isinstance(part, TensorDataset)]
        return ClientData(*(TensorDataset(inputs.view(-1, 1, 2, 3), labels) for inputs, labels in parts))

    def augment(self, batch: tuple[Tensor, Tensor], generator: Generator) -> tuple[Tensor, Tensor]:
        inputs, labels = batch
        return inputs + torch.rand(inputs.shape, generator=generator, device=inputs.device), labels


class StoppedError(Exception):
    pass


class Interrupting:
    """Lets one thing be done."""

    def __init__(self) -> None:
        self._looks = 2

    def __call__(self, status: pb.RunStatus) -> None:
        self._looks -= 1
        if self._looks == 0:
            raise StoppedError


def bits(run: RunDirectory) -> tuple[str, str]:
    return run.database.get("model_sha256"), run.tickets_sha256()


@pytest.mark.parametrize(
    ("strategy", "training"),
    [
        ("lotteryfl", SCHEDULES | STEPS | FORWARD | AUGMENT),
        ("fedprox", SCHEDULES | NAMED | {"steps": 3, "ema": 0.5}),
        ("feddst", SCHEDULES | NAMED | AUGMENT | {"steps": 3, "ema": 0.5}),
        ("sub-fedavg", STEPS | {"ema": 0.5}),
        pytest.param("lotteryfl", {"compile": True}, marks=SLOW),
    ],
)
def test_every_piece_of_work_alone_comes_to_the_bits_of_all_in_one_process(
    strategy: str, training: dict[str, Any], tmp_path: Path
) -> None:
    """Stopped after every single step of the run, so that no two assignments have a process in common."""
    experiment = tiny_experiment(
        training={"epochs": 2, **training}, strategy={"name": strategy, "readjust_every": 1, "min_mask_change": 0.0}
    )
    with simulated(tmp_path / "undisturbed", experiment, Images()) as run:
        expected = bits(run)
    create(tmp_path / "run", experiment, Images()).close()
    stops = 0
    while True:
        with RunDirectory(tmp_path / "run") as run:
            assert run.experiment == from_json(to_json(experiment)) == experiment
            try:
                Simulation(run, Images(), CPU).run(Interrupting())
            except StoppedError:
                stops += 1
                continue
            assert bits(run) == expected
            break
    assert stops > 6
