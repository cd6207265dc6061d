"""How many of the machine's cores this process may use: those that a scheduler or a container leaves it."""

import math
import os
from pathlib import Path

from lotteryfl.common.cgroups import group_values

_ROOT = Path("/")
_NO_QUOTA = "max"
_V2 = ("sys/fs/cgroup", "cpu.max")
_V1 = ("sys/fs/cgroup/cpu", "cpu.cfs_quota_us")
_V1_PERIOD = "cpu.cfs_period_us"


def usable_cores(root: Path = _ROOT) -> int:
    """Return how many cores this process may use: of its affinity, as Slurm sets it, and its group's quota.

    Args:
        root: where /proc and /sys are.
    """
    quotas = (quota for file, text in group_values(root, "cpu", v2=_V2, v1=_V1) if (quota := _quota(file, text)))
    return max(1, math.floor(min((_bound_to(), *quotas))))


def _bound_to() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(file: Path, text: str) -> float:
    """Return how many cores' time a group has; 0: as much as it wants."""
    quota, _, period = text.partition(" ")
    if not period:
        try:
            period = (file.parent / _V1_PERIOD).read_text()
        except OSError:
            return 0.0
    if quota == _NO_QUOTA or int(quota) <= 0:
        return 0.0
    return int(quota) / int(period)
