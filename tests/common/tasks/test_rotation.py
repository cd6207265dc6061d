import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lotteryfl.common.tasks.rotation import rotate


def images_of(size: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.rand(3, 2, size, size, generator=torch.Generator().manual_seed(seed))


@given(turns=st.integers(-5, 9), size=st.integers(1, 12))
def test_quarter_turns_can_be_undone(turns: int, size: int) -> None:
    images = images_of(size)
    turned = rotate(images, 90 * turns)
    assert torch.equal(turned, torch.rot90(images, turns, (2, 3)))
    assert torch.equal(rotate(turned, -90 * turns), images)
    turned.zero_()
    assert images.max() > 0  # a copy


@pytest.mark.parametrize("quarter", [90, 180, 270, 360])
def test_interpolated_angles_turn_the_same_way(quarter: int) -> None:
    images = images_of()
    # On the border, bilinear weights reach past the image, where there is nothing.
    near, exact = rotate(images, quarter - 1e-3), rotate(images, quarter)
    torch.testing.assert_close(near[..., 1:-1, 1:-1], exact[..., 1:-1, 1:-1], atol=1e-3, rtol=0)


@given(degrees=st.floats(-720, 720))
def test_what_is_symmetric_stays(degrees: float) -> None:
    """A disc keeps its middle and its mass, and corners stay empty."""
    across = torch.arange(31) - 15.0
    disc = torch.exp(-(across**2 + across[:, None] ** 2) / 20)[None, None]
    turned = rotate(disc, degrees)
    torch.testing.assert_close(turned, disc, atol=0.02, rtol=0)


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"images of shape \(1, 1, 2, 3\): expected \(examples, channels, size, size\)"
    ):
        rotate(torch.zeros(1, 1, 2, 3), 90)
