"""How many cores there are for a process: of its affinity and its groups, whichever is least."""

import os
from pathlib import Path

import pytest

from lotteryfl.running.cores import usable_cores

OURS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a\n", {"sys/fs/cgroup/a/cpu.max": "100000 100000"}, 1),
        ("0::/a\n", {"sys/fs/cgroup/a/cpu.max": "50000 100000"}, 1),
        ("0::/a/b\n", {"sys/fs/cgroup/a/cpu.max": "150000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 1),
        ("0::/a\n", {"sys/fs/cgroup/a/cpu.max": "max 100000"}, OURS),
        ("0::/a\n", {"sys/fs/cgroup/a/cpu.max": "100000000 100000"}, OURS),
        (
            "4:cpu,cpuacct:/x\n",
            {"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "100000", "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000"},
            1,
        ),
        ("4:cpu:/x\n", {"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1"}, OURS),
        ("", {}, OURS),
    ],
)
def test_the_least_counts(tmp_path: Path, membership: str, files: dict[str, str], expected: int) -> None:
    for name, text in {"proc/self/cgroup": membership, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == expected
