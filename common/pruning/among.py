"""The largest magnitudes of some tensors, out of those that are in question."""

from collections.abc import Sequence

from torch import Tensor

from lotteryfl.common.pruning.magnitude import Weight, masks_without_smallest


def largest_among(values: Sequence[Tensor], among: Sequence[Tensor], count: int) -> list[Tensor]:
    """Return bool masks of the `count` largest magnitudes over all tensors; of equal ones the last count.

    Args:
        values: floating point.
        among: bool, of the shape of each: what is in question.
        count: not below 0; where there are not so many, all of them.
    """
    there = [int(mask.sum()) for mask in among]
    weights = (
        Weight(each, mask.to(each.dtype), mask.numel() - size)
        for each, mask, size in zip(values, among, there, strict=True)
    )
    return [mask.bool() for mask in masks_without_smallest(weights, max(0, sum(there) - count))]
