"""What workers say of their machines: checked, and shown as long as they are alive."""

from collections.abc import Callable
from typing import Any

import pytest

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.machine import UNKNOWN, Machine, machine_of
from tests.support.bench import Bench, tiny_experiment

Drive = Callable[..., Bench]


@pytest.mark.parametrize(
    ("said", "expected", "shown"),
    [
        ({}, UNKNOWN, ""),
        ({"device": "cuda:11"}, Machine("cuda:11"), "cuda:11"),  # as older workers say it
        (
            {"device": "cuda:0", "device_memory": 85 * 10**9, "torch_version": "2.13.0+cu130"},
            Machine("cuda:0", 85 * 10**9, "2.13.0+cu130"),
            "cuda:0, 85.0 GB, torch 2.13.0+cu130",
        ),
    ],
)
def test_it_is_as_the_worker_says(said: dict[str, Any], expected: Machine, shown: str) -> None:
    found = machine_of(pb.RegisterRequest(**said))
    assert found == expected
    assert str(found) == shown


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"device": "cuda:0\n"}, r"^device 'cuda:0\\n': expected a kind and perhaps a number, as cuda:0$"),
        ({"device": "x" * 25}, "^device 'x+': expected a kind"),
        ({"device_memory": 1 << 51}, "^device_memory 2251799813685248: expected at most 1125899906842624 bytes$"),
        ({"torch_version": "2" * 65}, "^torch_version '2+': expected at most 64 printable characters$"),
        ({"torch_version": "2.13\x1b"}, r"^torch_version '2\.13\\x1b': expected"),
    ],
)
def test_what_cannot_be_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        machine_of(pb.RegisterRequest(**said))


def test_a_status_shows_the_machines_of_who_is_alive(drive: Drive) -> None:
    bench = drive(tiny_experiment(clients_per_round=4))
    coordinator = bench.coordinator
    coordinator.register("b", "1", None, Machine("cuda:1", 8 * 10**9, "2.13.0"))
    coordinator.register("old", "1", None)
    coordinator.register("lost", "1", None, Machine("mps"))
    bench.now = 5.0
    coordinator.register("a", "1", None, Machine("cuda:0", 8 * 10**9, "2.13.0"))
    bench.now = 9.0
    assert coordinator.status().devices == {"cuda": 2, "mps": 1, "unknown": 1}
    bench.now = 11.0
    for name in ("b", "old"):
        coordinator.register(name, "2", None, Machine("cuda:1") if name == "b" else UNKNOWN)
    status = coordinator.status()
    assert status.devices == {"cuda": 2, "unknown": 1}
    assert [machine.worker for machine in status.machines] == ["a", "b", "old"]
    assert status.machines[0] == pb.WorkerMachine(
        worker="a", device="cuda:0", device_memory=8 * 10**9, torch_version="2.13.0"
    )
    assert "a (cuda:0, 8.0 GB, torch 2.13.0) was heard of 6 s ago" in status.heard
    assert "old was heard of 0 s ago" in status.heard


def test_however_many_there_are_a_status_has_an_end(drive: Drive) -> None:
    bench = drive(tiny_experiment())
    for number in range(120):
        bench.coordinator.register(f"w{number:03}", "1", None, Machine(f"kind{number}"))
    status = bench.coordinator.status()
    assert len(status.devices) == 10
    assert [machine.worker for machine in status.machines] == [f"w{number:03}" for number in range(100)]
