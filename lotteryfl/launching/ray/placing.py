"""Placement groups: workers that begin together, on as few nodes as possible or on as many. All of it blocks."""

from typing import Any, NamedTuple

from lotteryfl.launching.ray.cluster import explained


class Group(NamedTuple):
    """A placement group of a launch."""

    handle: Any

    def place(self, number: int) -> Any:
        """Return the scheduling strategy that means one of its bundles, counted from 0."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        return PlacementGroupSchedulingStrategy(self.handle, placement_group_bundle_index=number)


def make_group(name: str, strategy: str, each: dict[str, float], count: int) -> Group:
    """Have Ray make one as soon as there is room for all of it; it is there until it is removed.

    Args:
        name: by which it is found again.
        strategy: by Ray's word.
        each: what a bundle has, by Ray's names.
        count: of bundles.
    """
    from ray.util import placement_group

    with explained():
        return Group(placement_group([each] * count, strategy, name=name, lifetime="detached"))


def remove_group(name: str) -> None:
    """Remove one, if it is there."""
    from ray.util import get_placement_group, remove_placement_group

    with explained():
        try:
            group = get_placement_group(name)
        except ValueError:
            return
        remove_placement_group(group)
