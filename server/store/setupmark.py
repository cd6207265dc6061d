"""Which folders hold a run, and in which one is only being set up: those go by a mark of their own."""

import shutil
from pathlib import Path

from lotteryfl.common.disk.folders import sync_folder, sync_way_to
from lotteryfl.common.disk.privatefiles import PRIVATE_FILE
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.faults import fault
from lotteryfl.server.store.record import SETUP
from lotteryfl.server.store.runfiles import model_file
from lotteryfl.server.store.runlock import LOCK


def is_set_up(path: Path) -> bool:
    """Tell whether the folder holds a run, and not one whose set-up was never finished."""
    return (path / "run.db").exists()


def require_free(path: Path) -> None:
    """Check that a run can be set up in a folder.

    Raises:
        LotteryFLError: there is something in it that no set-up has left.
    """
    names = {entry.name for entry in path.iterdir()} - {LOCK}
    if is_set_up(path) or (names and SETUP not in names):
        raise LotteryFLError(f"{path}: is not empty; choose another run directory")


def mark(path: Path) -> None:
    """Say, on disk before there is anything else, that what is in the folder is a set-up that is not finished."""
    (path / SETUP).touch(PRIVATE_FILE)
    sync_folder(path)
    sync_way_to(path)
    fault("setup-marked")


def unmark(path: Path) -> None:
    """Say that what is in the folder is a run."""
    (path / SETUP).unlink()
    fault("setup-unmarked")
    sync_folder(path)


def clear(path: Path) -> None:
    """Delete what a set-up that was not finished has left, all but what says that it is one.

    Raises:
        LotteryFLError: it is more than a set-up makes.
    """
    made = {*path.glob("results/*"), *path.glob("models/round-*")} - {path / model_file(0)}
    if made:
        raise LotteryFLError(
            f"{path}: has rounds or results ({min(made).name}) but no run.db, and is not cleared: "
            "put run.db back, or choose another run directory"
        )
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name not in (LOCK, SETUP):
            entry.unlink()
