"""The README's picture: accuracy against bytes, by the records of two tables in docs/experiments.md; `make front`."""

from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from lotteryfl.board.front import Point, front, point_of
from lotteryfl.common.training.score import Score
from lotteryfl.ranking.blocks import By, blocks_of
from lotteryfl.records.record import Record
from lotteryfl.server.results.spread import spread
from tools.site.curves import RECORDS
from tools.site.repository import ROOT

PICTURE = ROOT / "docs/images/front.svg"
SETTINGS = ("fashion/dirichlet-0.3/density-0.5", "fashion/dirichlet-0.3/density-0.1")
"""Blocks of records."""

_PANELS: dict[By, str] = {"personalised": "after local training", "downloaded": "as downloaded"}
_FRONT, _OTHERS = "#00796b", "#9e9e9e"
_NAMED = ("fedavg", "standalone", "scaffold", "apfl")
"""Whom to name beside those of the front."""
_SIZE = (10.0, 4.2)
_ABOVE, _BELOW, _LOWER = ((-4, 5), "right"), ((5, -10), "left"), ((5, -22), "left")
"""Where a name stands from its point, in points, and which of its ends is there."""


def points(by: By) -> list[Point]:
    """Return everyone's place in the settings, by the seeds that all have; the same run in several is one point.

    Args:
        by: whose accuracy.
    """
    blocks = {block.name: block for block in blocks_of([RECORDS / SETTINGS[0].partition("/")[0]])}
    alike = (item for name in SETTINGS for item in blocks[name].alike(blocks[name].runs).items())
    found = dict.fromkeys(point_of(_named(label, runs), runs, by) for label, runs in alike)
    return [point for point in found if point]


def _named(label: str, runs: list[Record]) -> str:
    """Return a strategy's label, with the density of its models where they are sparse."""
    density = f"{spread([run.density for run in runs]).mean:.2f}"
    return label if density == "1.00" else f"{label}, {density}"


def named(best: list[Point]) -> list[Point]:
    """Return the points of a front whose names are shown: of points that are close by, the best."""
    nexts = [*(each.megabytes for each in best[1:]), float("inf")]
    return [point for point, megabytes in zip(best, nexts, strict=True) if megabytes > 1.1 * point.megabytes]


def draw(file: Path) -> None:
    """Write the picture, an SVG."""
    with rc_context({"svg.hashsalt": "front", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        for axes, (column, title) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
            _panel(axes, points(column), title)
        figure.savefig(file, format="svg", metadata={"Date": None})
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def _name(axes: Any, point: Point, where: tuple[tuple[int, int], str], color: str) -> None:
    offset, side = where
    axes.annotate(
        point.label,
        (point.megabytes, point.score),
        xytext=offset,
        textcoords="offset points",
        ha=side,
        color=color,
        fontsize=8,
    )


def _panel(axes: Any, all_: list[Point], title: str) -> None:
    best = front(all_, Score())
    axes.step([each.megabytes for each in best], [each.score for each in best], where="post", color=_FRONT, lw=1)
    for point in all_:
        is_best = point in best
        axes.plot(point.megabytes, point.score, "o", color=_FRONT if is_best else _OTHERS, ms=6 if is_best else 4)
        if point.label in _NAMED and not is_best:
            _name(axes, point, _BELOW, "#616161")
    for point, where in zip(reversed(named(best)), cycle((_ABOVE, _ABOVE, _BELOW, _ABOVE, _LOWER)), strict=False):
        _name(axes, point, where, _FRONT)
    axes.set_title(f"accuracy {title}, mean over clients", fontsize=10)
    axes.set_xlabel("megabytes sent in the whole run, both ways")
    axes.set_xscale("log")
    axes.set_xticks([10, 20, 50, 100, 200, 400], ["10", "20", "50", "100", "200", "400"])
    axes.minorticks_off()
    axes.set_xlim(left=3)
    axes.set_ylim(bottom=0.35)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


if __name__ == "__main__":
    draw(PICTURE)
