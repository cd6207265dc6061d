"""What candidates keep of every tensor."""

import pytest

from lotteryfl.common.pruning.candidates import candidate_counts

SIZES = [48, 1000, 7, 24]


@pytest.mark.parametrize("density", [0.01, 0.1, 0.3])
def test_all_keep_the_density_and_the_first_the_same_share_of_all(density: float) -> None:
    found = candidate_counts(SIZES, density, 0.5, 20, 3)
    assert len(found) == 20
    for counts in found:
        assert abs(sum(counts) - density * sum(SIZES)) <= 0.5
        for count, size in zip(counts, SIZES, strict=True):
            assert 0 <= count <= size
            assert (
                abs(count - density * size) <= 2 * density * size + 1
            )  # three times as much, by (1 + 0.5) / (1 - 0.5)
    assert all(abs(count - density * size) <= 1 for count, size in zip(found[0], SIZES, strict=True))
    assert len({tuple(counts) for counts in found}) > 10 or density == 0.01
    assert found == candidate_counts(SIZES, density, 0.5, 20, 3)
    assert found != candidate_counts(SIZES, density, 0.5, 20, 4)


def test_no_tensor_keeps_more_than_it_has() -> None:
    for counts in candidate_counts(SIZES, 0.95, 1.0, 50, 1):
        assert all(0 <= count <= size for count, size in zip(counts, SIZES, strict=True))
        assert sum(counts) <= round(0.95 * sum(SIZES))


def test_without_noise_all_are_alike() -> None:
    assert len({tuple(counts) for counts in candidate_counts(SIZES, 0.3, 0.0, 5, 1)}) == 1
