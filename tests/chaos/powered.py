"""`lotteryfl …` on a disk that loses power: where a fault says `die`, some of what was not synced is lost as well.

The dying process itself writes down what a power cut would leave, while nobody in it can go on from a sync any more;
whoever starts it again puts that in its place. What SQLite has committed meanwhile stays, as it would.
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from random import Random

from lotteryfl.common import faults
from lotteryfl.program import main
from tests.support.powercut import Disk, write

DISK = "disk"
"""Below the process's folder, the one that is on the disk."""

_LEFT = "left"


def power_up(folder: Path) -> bool:
    """Put what a power cut has left in place of what was there, if there was one; the process is dead."""
    left, disk = folder / _LEFT, folder / DISK
    if not left.exists():
        return False
    for database in left.rglob("run.db"):
        before = disk / database.relative_to(left)
        for end in ("", "-wal"):
            if (file := Path(f"{before}{end}")).exists():
                shutil.copyfile(file, f"{database}{end}")
    shutil.rmtree(disk)
    left.rename(disk)
    return True


def run() -> None:
    """Run the program on the disk below the current folder."""
    folder = Path.cwd()
    disk = Disk(folder / DISK)

    def cut(point: str) -> None:
        with disk.lock:
            write(disk.left_by(disk.any_cut(Random(point))), folder / f"{_LEFT}.part")  # noqa: S311 - no secret
            (folder / f"{_LEFT}.part").rename(folder / _LEFT)
            os.kill(os.getpid(), signal.SIGKILL)

    faults.ACTIONS["die"] = cut
    with disk.followed():
        sys.exit(main())


if __name__ == "__main__":
    run()
