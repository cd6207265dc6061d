"""Positions of packed masks: those of the mask, whoever holds it, and never more bytes than were allowed."""

import pytest
import torch

from lotteryfl.common import packedmasks
from lotteryfl.common.positions import Positions


def mask(seed: int, numel: int = 3 * packedmasks.BLOCK + 21) -> packedmasks.PackedMask:
    return packedmasks.pack(torch.rand(numel, generator=torch.Generator().manual_seed(seed)) < 0.1)


def found(positions: Positions, packed: packedmasks.PackedMask) -> torch.Tensor:
    held = positions.of(packed)
    assert held is not None
    return torch.from_numpy(held)


@pytest.mark.parametrize("numel", [0, 1, 8, 21, packedmasks.BLOCK, packedmasks.BLOCK + 1])
def test_values_are_moved_as_they_are_without_positions(numel: int) -> None:
    packed, values = mask(numel, numel), torch.randn(numel)
    held = Positions().of(packed)
    assert held is not None
    kept, whole = packedmasks.gather(values, packed), torch.full((numel,), torch.nan)
    assert torch.equal(packedmasks.gather(values, packed, held), kept)
    packedmasks.scatter(kept, packed, whole, held)
    assert torch.equal(whole, values * packedmasks.unpack(packed, (numel,)))


def test_an_equal_mask_is_not_searched_again_and_one_that_was_changed_in_place_is() -> None:
    positions, packed = Positions(), mask(1)
    first = positions.of(packed)
    assert first is not None
    assert positions.of(packed.copy()) is first
    packed ^= 1  # of every byte the first bit
    kept = packedmasks.unpack(packed, (packed.size * 8,)).nonzero().flatten()
    assert torch.equal(found(positions, packed), kept.to(torch.int32))


def test_masks_of_one_checksum_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lotteryfl.common.positions.zlib_ng.crc32", lambda _: 0)
    positions = Positions()
    for seed in (1, 2, 1):
        assert torch.equal(found(positions, mask(seed)), torch.from_numpy(packedmasks.positions(mask(seed))))


def test_no_more_is_held_than_was_allowed() -> None:
    one = mask(1)
    size = one.nbytes + 4 * packedmasks.count(one)
    assert Positions(size - 1).of(one) is None
    positions = Positions(size + size // 2)
    first = positions.of(one)
    assert positions.of(one) is first
    assert positions.of(mask(2)) is not None
    assert positions.of(one) is not first
