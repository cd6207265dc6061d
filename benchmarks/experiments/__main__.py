"""`make experiments`: without PART the parts and what is done of each; with it, its runs that have no record yet."""

import argparse
import asyncio
import shutil
import sys
from functools import partial
from pathlib import Path

from benchmarks.experiments.parts import RECORDS, ROOT, Part, done_keys, once, part_names, planned, read_part
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.comparing.cells import Cell
from lotteryfl.comparing.processes import run_cells
from lotteryfl.records import record_of, write_record
from lotteryfl.running.owncode import OwnCode
from lotteryfl.signals import run_until_signal


def main() -> None:
    """List, or run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(part_names())} [default: list them]")
    parser.add_argument(
        "--data-dir", default="", help="folder of the data that a part needs [default: the usual places]"
    )
    parser.add_argument("--seed", type=int, action="append", help="this one alone, or these [default: all of the part]")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder with results/ [default: this repository]")
    options = parser.parse_args()
    root = options.root
    try:
        if not options.parts:
            print(listing(root))
        for name in options.parts:
            run_part(name, read_part(name, root).with_seeds(options.seed), options.data_dir, options.jobs, root)
    except LotteryFLError as error:
        sys.exit(str(error))
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit("stopped; what was counted is kept, and the same command goes on")


def listing(root: Path) -> str:
    """Return a line for each part: what it is, how much of it has records, about how long the rest takes."""
    done, lines = done_keys(root), []
    for name in part_names(root):
        part = read_part(name, root)
        runs = planned(name, part, root=root)
        whole, left = len(list(once(runs, ()))), len(list(once(runs, done)))
        minutes = left * part.seconds / 60
        lines.append(
            f"{name:20} {whole - left:3} of {whole:3} runs done, {minutes:4.0f} min left on a core: {part.about}"
        )
    return "\n".join(lines)


def run_part(name: str, part: Part, data_dir: str, jobs: int, root: Path = ROOT) -> None:
    """Run what has no record yet, and write the record of each run as soon as it ends; its directory goes.

    Raises:
        LotteryFLError: a run failed.
    """
    left = list(once(planned(name, part, data_dir, root), done_keys(root)))
    folders = {run.cell: root / RECORDS / part.records / run.folder for run in left}
    verb = ("simulate", *OwnCode(tuple(str(root / task) for task in filter(None, [part.task]))).options)
    waiting = []
    for cell, folder in folders.items():
        cell.path.parent.mkdir(parents=True, exist_ok=True)
        if cell.is_finished():  # and stopped before it had a record
            keep(cell, folder)
        else:
            waiting.append(cell)
    print(f"{name}: {len(waiting)} runs", flush=True)
    failed = run_until_signal(
        run_cells(waiting, jobs, verb, partial(print, flush=True), lambda cell: keep(cell, folders[cell]))
    )
    if failed:
        reasons = "\n".join(f"{cell.path}: {why}" for cell, why in failed.items())
        raise LotteryFLError(f"{len(failed)} of {len(left)} runs failed:\n{reasons}")


def keep(cell: Cell, folder: Path) -> None:
    """Write a run's record into a folder, and remove its directory."""
    write_record(record_of(cell.path), folder / f"{cell.path.name}.json")
    shutil.rmtree(cell.path)
    cell.path.with_name(f"{cell.path.name}.log").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
