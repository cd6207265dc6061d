"""The picture of a profile: a time-line of one round, and bars of processor time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.stopwatch import Lap, Laps

_LANES: dict[str, dict[str, str]] = {
    "worker": {
        "download": "#9ecae1",
        "work": "#d9d9d9",
        "decode": "#74c476",
        "encode": "#31a354",
        "upload": "#6baed6",
    },
    "coordinator": {
        "dispatch": "#bcbddc",
        "read": "#9e9ac8",
        "spool": "#fdae6b",
        "check": "#fb6a4a",
        "aggregate": "#e6550d",
        "fsync": "#636363",
        "commit": "#000000",
    },
}
"""By kind of process, its steps in the order in which they are drawn: what lies within another one comes after it."""

_THREADS = {"MainThread": "#6baed6", "coordinator": "#9e9ac8", "asyncio": "#fdae6b"}
_NAMES = {"MainThread": "event loop", "coordinator": "the coordinator's thread", "asyncio": "upload threads"}


def draw(
    file: Path, whole: Lap, processes: Mapping[str, Laps], costs: Mapping[tuple[str, str], float], workers: int
) -> None:
    """Write the picture.

    Args:
        file: an SVG.
        whole: the round.
        processes: by name, what each did.
        costs: by thread and step, seconds of processor time for an assignment.
        workers: how many the fleet has.
    """
    with rc_context({"svg.hashsalt": "profile", "font.size": 9}):
        figure = Figure(figsize=(11, 8), layout="constrained")
        above, below = figure.subplots(2, 1)
        _time_line(above, whole, processes)
        _bars(below, costs, workers)
        figure.savefig(file, format="svg", metadata={"Date": None})


def _time_line(axes: Any, whole: Lap, processes: Mapping[str, Laps]) -> None:
    seen: dict[str, Any] = {}
    for row, (name, laps) in enumerate(reversed([*processes.items()])):
        for step, colour in _LANES["worker" if name.startswith("worker") else "coordinator"].items():
            bars = [
                _within(lap, whole) for lap in laps.get(step, ()) if lap.end > whole.start and lap.start < whole.end
            ]
            narrow = step in ("fsync", "decode", "encode", "commit")
            seen[step] = axes.broken_barh(
                bars, (row - 0.2, 0.4) if narrow else (row - 0.4, 0.8), facecolor=colour, label=step
            )
    axes.set_yticks(range(len(processes)), reversed([*processes]))
    axes.set_xlim(0, 1000 * whole.seconds)
    axes.set_xlabel("ms since the commit of the round before")
    axes.set_title(f"a round of 2 × 11 M at density 0.1: {1000 * whole.seconds:.0f} ms")
    axes.legend(handles=list(seen.values()), ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.15))


def _within(lap: Lap, whole: Lap) -> tuple[float, float]:
    start, end = max(lap.start, whole.start), min(lap.end, whole.end)
    return 1000 * (start - whole.start), 1000 * (end - start)


def _bars(axes: Any, costs: Mapping[tuple[str, str], float], workers: int) -> None:
    names = [f"{_NAMES.get(thread, thread)}: {step}" for thread, step in costs]
    bars = axes.barh(names, [1000 * seconds for seconds in costs.values()])
    for bar, (thread, _) in zip(bars, costs, strict=True):
        bar.set_color(_THREADS.get(thread, "#969696"))
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("the coordinator's processor time for an assignment, ms")
    axes.set_title(f"{workers:,} workers × 20 k: {1000 * sum(costs.values()):.2f} ms of processor time an assignment")
