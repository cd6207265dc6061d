"""RESULTS.md: what a whole run came to, and on what."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.harness import Row, table
from benchmarks.parts import subject_of

PATH = Path(__file__).with_name("RESULTS.md")

_INTRODUCTION = """\
# Results

`make bench`, {date}: {machine}. Load average at the end: {load:.1f}.

Every row shows ours beside a baseline that was measured in the same run, in turn with it: median (smallest to
largest). Ratios are taken pair by pair: `×` is ours / baseline, `× less` is baseline / ours. Whole rounds beside a
peer's are in [PEER.md](PEER.md).

{met} of {goals} goals are met.
"""


def write(parts: Mapping[str, Sequence[Row]]) -> Path:
    """Write the rows, part by part, under what each part says of itself."""
    goals = [row for rows in parts.values() for row in rows if row.goal]
    text = _INTRODUCTION.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=machine(),
        load=os.getloadavg()[0],
        met=sum(bool(row.met) for row in goals),
        goals=len(goals),
    )
    for part, rows in parts.items():
        text += f"\n## {part.capitalize()}\n\n{subject_of(part)}\n\n{table(rows, 'github')}\n"
    PATH.write_text(text, encoding="utf-8")
    return PATH


def machine() -> str:
    """Describe this machine in general words."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = f"{torch.cuda.device_count()} GPU" if torch.cuda.is_available() else "no GPU"
    versions = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in ("torch", "numpy", "grpcio"))
    python = platform.python_version()
    return f"{cores} cores, {memory:.0f} GiB, {gpu}, {platform.system()}, Python {python}, {versions}"
