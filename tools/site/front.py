"""The README's picture: accuracy against bytes, by two tables of docs/experiments.md; `make front`."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from tools.site.repository import ROOT

PICTURE = ROOT / "docs/images/front.svg"
TABLES = ("Dirichlet 0.3, density 0.5", "Dirichlet 0.3, density 0.1")
"""Headings of the tables in docs/experiments.md, of one setting: who is in both with the same run is one point."""

_PANELS = {"personalised": "after local training", "downloaded": "as downloaded"}
_FRONT, _OTHERS = "#00796b", "#9e9e9e"
_NAMED = ("fedavg", "standalone", "scaffold", "apfl")
"""Whom to name beside those of the front."""
_SIZE = (10.0, 4.2)


class Point(NamedTuple):
    """A strategy's place."""

    name: str
    megabytes: float
    accuracy: float


def points(column: str) -> list[Point]:
    """Return the tables' rows.

    Args:
        column: whose accuracy, by the tables' heads.
    """
    text = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    found: dict[Point, None] = {}
    for heading in TABLES:
        part = text.split(f"\n### {heading}\n")[1].split("\n##")[0]
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in _table(part)]
        where, megabytes, density = (head.index(each) for each in (column, "MB in all", "density"))
        for row in rows:
            name = row[0] if row[density] == "1.00" else f"{row[0]}, {row[density]}"
            found[Point(name, float(row[megabytes]), float(row[where].split(" ±")[0]))] = None
    return list(found)


def _table(part: str) -> list[str]:
    """Return the lines of the first table of a part."""
    found = re.search(r"(?:^\|.*\n)+", part, re.MULTILINE)
    return found[0].splitlines() if found else []


def front(all_: Iterable[Point]) -> list[Point]:
    """Return the points that no other one is better than for no more bytes, from few bytes to many."""
    kept: list[Point] = []
    for point in sorted(all_, key=lambda each: (each.megabytes, -each.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept


def named(best: list[Point]) -> list[str]:
    """Return the names of a front's points that are shown: of points that are close by, the best."""
    nexts = [*(each.megabytes for each in best[1:]), float("inf")]
    return [point.name for point, megabytes in zip(best, nexts, strict=True) if megabytes > 1.1 * point.megabytes]


def draw(file: Path) -> None:
    """Write the picture, an SVG."""
    with rc_context({"svg.hashsalt": "front", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        for axes, (column, title) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
            _panel(axes, points(column), title)
        figure.savefig(file, format="svg", metadata={"Date": None})
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def _panel(axes: Any, all_: list[Point], title: str) -> None:
    best = front(all_)
    axes.step([each.megabytes for each in best], [each.accuracy for each in best], where="post", color=_FRONT, lw=1)
    for point in all_:
        is_best = point in best
        axes.plot(point.megabytes, point.accuracy, "o", color=_FRONT if is_best else _OTHERS, ms=6 if is_best else 4)
        if point.name in (*_NAMED, *named(best)):
            axes.annotate(
                point.name,
                (point.megabytes, point.accuracy),
                xytext=(-4, 5) if is_best else (5, -7),
                textcoords="offset points",
                ha="right" if is_best else "left",
                color=_FRONT if is_best else "#616161",
                fontsize=8,
            )
    axes.set_title(f"accuracy {title}, mean over clients", fontsize=10)
    axes.set_xlabel("megabytes sent in the whole run, both ways")
    axes.set_xscale("log")
    axes.set_xticks([10, 20, 50, 100, 200, 400], ["10", "20", "50", "100", "200", "400"])
    axes.minorticks_off()
    axes.set_xlim(left=4)
    axes.set_ylim(bottom=0.35)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


if __name__ == "__main__":
    draw(PICTURE)
