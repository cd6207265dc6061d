"""What `torch.accelerator` tells of a card, asked in one place; and a card that is gone says so in one line."""

from pathlib import Path

import pytest
import torch

from lotteryfl.common import accelerators
from lotteryfl.common.accelerators import DeviceMemory
from lotteryfl.common.disk.atomicfile import AtomicFile
from lotteryfl.common.errors import DeviceGoneError
from tests.support.devices import CARD, play_card

CPU = torch.device("cpu")


def test_a_cards_memory_is_what_torch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    play_card(monkeypatch, free=50, total=100, reserved=30, allocated=10)
    assert accelerators.device_memory(CARD) == DeviceMemory(50, 100, 30, 10)
    assert accelerators.device_memory(CPU) is None


def test_a_peak_is_counted_from_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    play_card(monkeypatch, free=50, total=100)
    begun: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "reset_peak_memory_stats", begun.append)
    monkeypatch.setattr(torch.accelerator, "max_memory_allocated", lambda _: 7)
    monkeypatch.setattr(torch.accelerator, "max_memory_reserved", lambda _: 9)
    accelerators.begin_peak(CARD)
    accelerators.begin_peak(CPU)
    assert begun == [CARD]
    assert accelerators.peak(CARD) == (7, 9)
    assert accelerators.peak(CPU) == (0, 0)


def test_a_card_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    play_card(monkeypatch, free=50, total=100)
    assert accelerators.device_memory(CARD)

    def fail(*_device: object) -> None:
        raise RuntimeError("device-side assert triggered\nand more")

    monkeypatch.setattr(torch.accelerator, "synchronize", fail)
    with pytest.raises(DeviceGoneError, match=r"^cuda:0: cannot be used any more: .*device-side assert triggered$"):
        accelerators.release(CARD)
    accelerators.release(CPU)


def test_a_large_file_that_its_disk_begins_to_write_early_is_whole(tmp_path: Path) -> None:
    path, piece = tmp_path / "file", bytes(range(256)) * (1 << 12)
    with AtomicFile(path) as file:
        for number in range(9):
            file.write(piece, number * len(piece))
    assert path.read_bytes() == 9 * piece
