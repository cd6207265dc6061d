"""The picture of who worked when: the assignments of a run on its workers."""

from typing import TYPE_CHECKING

from lotteryfl.server.results.reporting.data import Leased, RunData
from lotteryfl.server.results.reporting.style import DOWNLOADED, PERSONALISED, legend_below, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_WORKERS = 30
_MOST_BARS = 150
"""Assignments that can still be told apart at the width of a page."""


def draw_timeline(run: RunData, label: str) -> "Figure":
    """Draw the last assignments of each worker, those of odd and even rounds in two colours.

    Shown is the last lease of each assignment, the one whose result counted, from its grant to that result.
    """
    shown, workers = _shown(run)
    figure = new_figure(f"{label}: assignments on workers", 1.5 + 0.34 * max(len(workers), 3))
    axes = figure.subplots()
    first = min(lease.begin for lease in shown)
    names = {0: "even rounds", 1: "odd rounds"}
    for odd, colour in enumerate((PERSONALISED, DOWNLOADED)):
        for row, worker in enumerate(workers):
            bars = [(x.begin, x.end - x.begin) for x in shown if x.worker == worker and x.round % 2 == odd]
            axes.broken_barh(
                bars, (row - 0.38, 0.76), facecolors=colour, edgecolors="white", linewidth=0.3, label=names.pop(odd, "")
            )
    rounds = sorted({lease.round for lease in shown})
    tidy(axes, "seconds since the run began", "", f"rounds {rounds[0]} to {rounds[-1]}, one bar for each client")
    axes.set_yticks(range(len(workers)), workers)
    axes.set_ylim(len(workers) - 0.4, -0.6)
    axes.set_xlim(first, max(lease.end for lease in shown))
    legend_below(figure, axes)
    return figure


def _shown(run: RunData) -> tuple[list[Leased], list[str]]:
    """Return whole rounds from the end, as many as can be told apart, and the workers in them."""
    by_round: dict[int, list[Leased]] = {}
    for lease in run.leases:
        by_round.setdefault(lease.round, []).append(lease)
    shown: list[Leased] = []
    for _, leases in sorted(by_round.items(), reverse=True):
        if shown and len(shown) + len(leases) > _MOST_BARS:
            break
        shown += leases
    workers = sorted({lease.worker for lease in shown}, key=lambda name: (len(name), name))[:_MOST_WORKERS]
    return [lease for lease in shown if lease.worker in workers], workers
