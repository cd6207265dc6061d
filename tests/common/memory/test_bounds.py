"""Who says how much memory there is: the least of machine, containers and shell."""

import subprocess
import sys
from pathlib import Path

import pytest

from lotteryfl.common.memory.bounds import Bound, host_bound

MACHINE = "the machine's memory"


def root(folder: Path, membership: str, **limits: str) -> Path:
    """Lay out what the kernel shows: limits by path below sys/fs/cgroup, where __ stands for a slash."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(membership)
    for path, value in limits.items():
        group = folder / "sys/fs/cgroup" / path.replace("__", "/")
        group.mkdir(parents=True, exist_ok=True)
        name = "memory.limit_in_bytes" if path.startswith("memory") else "memory.max"
        (group / name).write_text(f"{value}\n")
    return folder


@pytest.mark.parametrize(
    ("membership", "limits", "expected", "where"),
    [
        ("0::/a/b\n", {"a__b": "4096"}, 4096, "sys/fs/cgroup/a/b/memory.max"),
        ("0::/a/b\n", {"a__b": "max", "a": "8192"}, 8192, "sys/fs/cgroup/a/memory.max"),
        ("0::/a/b\n", {"a__b": "8192", "a": "4096"}, 4096, "sys/fs/cgroup/a/memory.max"),
        ("0::/\n", {"": "4096"}, 4096, "sys/fs/cgroup/memory.max"),  # inside of a container
        ("0::/../../x\n", {"": "4096"}, 4096, "sys/fs/cgroup/memory.max"),
        ("3:cpu:/y\n4:memory:/x\n0::/\n", {"memory__x": "4096"}, 4096, "cgroup/memory/x/memory.limit_in_bytes"),
        ("4:cpu,memory:/x\n", {"memory": "4096"}, 4096, "cgroup/memory/memory.limit_in_bytes"),
        ("4:memory:/x\n", {"memory__x": "9223372036854771712"}, None, MACHINE),  # how version 1 says that there is none
        ("0::/a\n", {"a": "max"}, None, MACHINE),
        ("0::/a\n", {}, None, MACHINE),
        ("", {}, None, MACHINE),
    ],
)
def test_the_least_of_a_process_and_what_is_around_it(
    tmp_path: Path, membership: str, limits: dict[str, str], expected: int | None, where: str
) -> None:
    bound = host_bound(root(tmp_path, membership, **limits))
    assert where in bound.source
    assert expected in (None, bound.nbytes)
    assert bound.halved().nbytes == bound.nbytes // 2
    assert bound.halved().source == f"half of {bound.source}"


def test_without_groups_the_machine_is_the_bound(tmp_path: Path) -> None:
    assert host_bound(tmp_path).source == MACHINE


@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_limit_of_the_shell_counts_without_what_is_taken_by_now(name: str) -> None:
    code = (
        "import resource; from lotteryfl.common.memory.bounds import host_bound;"
        f"resource.setrlimit(resource.{name}, (6 << 30, 6 << 30)); bound = host_bound();"
        "print(bound.nbytes, bound.source)"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    nbytes, _, source = done.stdout.strip().partition(" ")
    assert 0 < int(nbytes) < 6 << 30
    assert source == f"what is left of {name}"


@pytest.mark.parametrize(
    ("processes", "expected"),
    [(1, Bound(450, "half of it")), (2, Bound(450, "half of it")), (3, Bound(300, "1/3 of it"))],
)
def test_one_of_several_takes_its_part_and_one_alone_half(processes: int, expected: Bound) -> None:
    assert Bound(900, "it").shared(processes) == expected
