"""Clients' data that stays between assignments: the same tensors again, within the bound, and the same bits."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.client.work.keptdata import KeptData, spare
from lotteryfl.common.accelerators import DeviceMemory
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.training.structure import Rows
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.client.work.test_assignment import PRUNE, TRAIN, Client
from tests.support.bench import CPU, TinyTask, tiny_experiment
from tests.support.devices import DEVICES

ROW = 6 * 4 + 8
"""Bytes of one of TinyTask's examples; client k has 23 + k."""


class Asked(TinyTask):
    """Counts who was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[int] = []

    def client_data(self, client: int) -> ClientData:
        self.clients.append(client)
        return super().client_data(client)


class Listed(Dataset[Any]):
    """Examples one by one."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(6), index % 3


def inputs_of(data: ClientData) -> Tensor:
    assert isinstance(data.train, TensorDataset)
    return data.train.tensors[0]


def test_what_is_kept_is_the_same_tensor_and_the_least_recently_used_goes_first() -> None:
    task = Asked()
    kept = KeptData(task, CPU, (23 + 25) * ROW)
    first = inputs_of(kept.of(0))
    kept.of(2)
    assert kept.nbytes == (23 + 25) * ROW
    assert inputs_of(kept.of(0)) is first
    assert task.clients == [0, 2]
    kept.of(1)  # in the place of client 2, which has not been asked for since
    assert kept.nbytes == (23 + 24) * ROW
    assert inputs_of(kept.of(0)) is first
    kept.of(2)
    assert task.clients == [0, 2, 1, 2]
    kept.clear()
    kept.of(0)
    assert task.clients == [0, 2, 1, 2, 0]


def test_what_is_larger_than_the_bound_drives_nothing_out() -> None:
    task = Asked()
    kept = KeptData(task, CPU, 23 * ROW)
    for client in (0, 3, 0, 3):
        kept.of(client)
    assert task.clients == [0, 3, 3]
    assert kept.nbytes == 23 * ROW


@pytest.mark.parametrize("device", DEVICES)
def test_what_nobody_has_bounded_is_kept_where_a_device_has_memory_of_its_own(device: str) -> None:
    task = Asked()
    kept = KeptData(task, torch.device(device), None)
    first, again = inputs_of(kept.of(0)), inputs_of(kept.of(0))
    assert first.device.type == device
    assert (first is again, kept.nbytes, task.clients) == (
        (False, 0, [0, 0]) if device == "cpu" else (True, 23 * ROW, [0])
    )


def test_what_is_not_in_memory_is_not_kept() -> None:
    class Mixed(Asked):
        def client_data(self, client: int) -> ClientData:
            data = super().client_data(client)
            return ClientData(data.train, Listed(), data.test)

    task = Mixed()
    kept = KeptData(task, CPU, 1 << 20)
    kept.of(0)
    assert isinstance(kept.of(0).validation, Listed)
    assert (task.clients, kept.nbytes) == ([0, 0], 0)


def test_examples_of_any_structure_are_kept() -> None:
    class Dicts(Asked):
        def client_data(self, client: int) -> ClientData:
            self.clients.append(client)
            return ClientData(*[Rows({"x": torch.ones(3, 2), "of": (torch.zeros(3),)})] * 3)

    task = Dicts()
    kept = KeptData(task, CPU, 1 << 20)
    first, again = kept.of(0).train, kept.of(0).train
    assert isinstance(first, Rows)
    assert isinstance(again, Rows)
    assert again.content["of"][0] is first.content["of"][0]
    assert (task.clients, kept.nbytes) == ([0], 3 * (3 * 2 + 3) * 4)


@pytest.mark.parametrize("keep", [0, 1 << 20])
def test_work_on_kept_data_has_the_same_bits(keep: int) -> None:
    task = Asked()
    plain, client = Client(), Client(task)
    experiment = tiny_experiment(training={"lr": 0.1, "momentum": 0.9})
    client.runner = AssignmentRunner(task, experiment, client.table, client.initial, CPU, keep_data=keep)
    for seed in range(3):
        plan = pb.Plan(prune=PRUNE, train=TRAIN)
        entries = client.run(plan, client=1, seed=seed).entries
        assert digest(dict(entries)) == digest(dict(plain.run(plan, client=1, seed=seed).entries))
    assert task.clients == [1] * (1 if keep else 3)


@pytest.mark.parametrize(
    ("free", "ours", "used", "taken", "expected"),
    [(100, 0, 0, 0, 50), (60, 0, 0, 0, 10), (50, 30, 10, 20, 20), (10, 30, 30, 30, 0), (40, 50, 5, 60, 25)],
)
def test_half_of_a_devices_memory_and_what_work_took_stay_free(
    free: int, ours: int, used: int, taken: int, expected: int
) -> None:
    assert spare(DeviceMemory(free, 100, ours, used), taken) == expected
    assert spare(None, taken) == 0
