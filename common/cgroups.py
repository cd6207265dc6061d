"""What a process's control group, and all groups around it, are allowed: how containers and schedulers bound it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MEMBERSHIP = "proc/self/cgroup"


def group_values(
    root: Path, controller: str, *, v2: tuple[str, str], v1: tuple[str, str]
) -> Iterator[tuple[Path, str]]:
    """Yield what is set from the process's group up to the top, which inside of a container is often all there is.

    Args:
        root: where /proc and /sys are.
        controller: of version 1, as "memory".
        v2: folder of version 2's groups below the root, and the name of the file.
        v1: those of version 1.

    Yields:
        File and text, for each file that can be seen from here.
    """
    try:
        lines = (root / _MEMBERSHIP).read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            folder, name = v1 if controllers else v2
            yield from _upwards(root / folder, path, name)


def _upwards(top: Path, path: str, name: str) -> Iterator[tuple[Path, str]]:
    group = top / path.strip("/") if ".." not in path.split("/") else top
    for folder in (group, *group.parents):
        with suppress(OSError):  # not to be seen from here
            yield folder / name, (folder / name).read_text().strip()
        if folder == top:
            return
