"""`make gpu-check`: every part in a process of its own; the table is whole after every row, whatever ends the check."""

import argparse
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu.machine import described
from benchmarks.gpu.parts import PARTS, rows_of, seconds_of
from benchmarks.gpu.report import write
from benchmarks.gpu.row import Row, check, from_line
from benchmarks.gpu.runs import Setting
from lotteryfl.allocator import keep_freed_memory
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.running.device import choose_device

SECONDS = 900.0
"""That all of it may take, if nothing else is said."""

_ROOT = Path(__file__).parents[2]
_NO_CARD = 2
"""Exit code where there is no accelerator."""
_LATE = 2.5
"""Times what a part should take, after which it is stopped."""
_GRACE = 15.0
"""Seconds that a part which was stopped has to stop its workers."""


def main() -> None:
    """Check all parts, or those that are named."""
    options = _options()
    setting = Setting(options.device, options.quick)
    if options.alone:
        _work_alone(options.alone, setting)
        return
    device = _device(options.device)
    setting = Setting(str(device), options.quick)
    command = shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]])
    found: dict[str, list[Row] | str] = {}
    machine, ends = described(device), time.monotonic() + (math.inf if options.quick else options.seconds)

    def write_down() -> None:
        write(options.out, machine, command, found, is_card=device.type != "cpu")

    write_down()
    for part in options.parts or PARTS:
        left = ends - time.monotonic()
        if left < seconds_of(part):
            found[part] = f"not run: it may take {seconds_of(part):.0f} s, and {max(0, left):.0f} s were left"
        else:
            rows = found[part] = []
            start = time.monotonic()
            for row in _rows(part, setting, left if options.quick else min(left, _LATE * seconds_of(part))):
                rows.append(replace(row, holds=None) if row.goal and options.quick else row)
                print(f"{part}: {row.what}: {row.found}{' — DOES NOT HOLD' * row.has_failed}", flush=True)
                write_down()
            print(f"{part}: {time.monotonic() - start:.0f} s", file=sys.stderr)
        write_down()
    failed = [row for rows in found.values() if not isinstance(rows, str) for row in rows if row.has_failed]
    print(f"{len(failed)} checks do not hold; written: {options.out}")
    sys.exit(1 if failed else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} [default: all]")
    parser.add_argument("--device", default="auto", help="as `lotteryfl work` takes it [default: the accelerator]")
    parser.add_argument("--quick", action="store_true", help="in small: shows that the parts work, and nothing else")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "GPU.md", help="[default: %(default)s]")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="that all may take, not in small [default: %(default).0f]"
    )
    parser.add_argument("--alone", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: expected of {', '.join(PARTS)}")
    return options


def _device(text: str) -> torch.device:
    """Return the device to check; where there is none, the check ends."""
    try:
        device = choose_device(text)
    except LotteryFLError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        sys.exit(_NO_CARD)
    if device.type == "cpu" and text == "auto":
        print("gpu-check: torch finds no accelerator here; DEVICE=cpu QUICK=1 is a dry run on the CPU", file=sys.stderr)
        sys.exit(_NO_CARD)
    return device


def _rows(part: str, setting: Setting, seconds: float) -> Iterator[Row]:
    """Yield what a part finds, from a process of its own that is stopped when the time is over."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--alone", part, "--device", setting.device]
    process = subprocess.Popen(  # noqa: S603 - our own
        [*command, *(["--quick"] if setting.quick else [])],
        cwd=_ROOT,
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    is_late = threading.Event()

    def stop() -> None:
        is_late.set()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(min(max(1.0, seconds), threading.TIMEOUT_MAX), stop)
    timer.start()
    try:
        for line in process.stdout or ():
            if (row := from_line(line)) is not None:
                yield row
        code = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:  # whoever asked has been stopped
            stop()
    if is_late.is_set():
        yield Row(f"the rest of {part}", "not run: the time was over")
    elif code:
        yield check(part, False, f"ended with exit code {code}: see what it said")


def _environment() -> dict[str, str]:
    """Return ours, in which this checkout is imported, and cuBLAS has the workspace that the same bits need."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "CUBLAS_WORKSPACE_CONFIG": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
    }


def _work_alone(part: str, setting: Setting) -> None:
    keep_freed_memory()  # as workers do at their start
    for row in rows_of(part, setting):
        print(row.to_line(), flush=True)


if __name__ == "__main__":
    main()
