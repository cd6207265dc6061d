"""What Prometheus reads of a worker, of its device too; also where that is gone."""

import pytest
import torch

from lotteryfl.client.counted import Counted
from lotteryfl.client.prometheus import METRICS, WorkerCollector
from tests.support.devices import CARD, play_card


def read(counted: Counted, device: torch.device) -> dict[str, float]:
    """Return by NAME, or NAME/LABEL, what is there."""
    return {
        "/".join([sample.name, *sample.labels.values()]): sample.value
        for family in WorkerCollector(counted, device).collect()
        for sample in family.samples
    }


def test_on_a_card_all_that_is_documented_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    play_card(monkeypatch, free=50, total=100, reserved=30, allocated=10)
    counted = Counted()
    counted.steps += 7
    counted.ended("refused")
    counted.ended("refused")
    found = read(counted, CARD)
    assert {name.partition("/")[0] for name in found} == {name for each in METRICS for name in each.samples}
    assert found["lotteryfl_worker_info/cuda:0"] == 1
    assert found["lotteryfl_worker_steps_total"] == 7
    assert found["lotteryfl_worker_assignments_total/refused"] == 2
    assert found["lotteryfl_worker_assignments_total/accepted"] == 0
    prefix = "lotteryfl_worker_device_memory_bytes/"
    assert {part: found[prefix + part] for part in ("used", "held", "free")} == {"used": 10, "held": 20, "free": 50}
    assert found["lotteryfl_worker_device_memory_total_bytes"] == 100


def test_of_a_card_that_is_gone_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    play_card(monkeypatch, free=50, total=100)

    def fail(*_device: object) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(torch.accelerator, "memory_allocated", fail)
    found = read(Counted(), CARD)
    assert found["lotteryfl_worker_steps_total"] == 0
    assert not any("memory" in name for name in found)
