"""The README's picture: accuracy against bytes of the strategies in one table of docs/experiments.md; `make front`."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from tools.site.repository import ROOT

PICTURE = ROOT / "docs/images/front.svg"
TABLE = "Fashion-MNIST, 400 clients of two classes"
"""Heading of the table in docs/experiments.md."""

_PANELS = {"personalised": "after local training", "downloaded": "as downloaded"}
_FRONT, _OTHERS = "#00796b", "#9e9e9e"
_SIZE = (10.0, 4.2)


class Point(NamedTuple):
    """A strategy's place."""

    name: str
    megabytes: float
    accuracy: float


def points(column: str) -> list[Point]:
    """Return the table's rows.

    Args:
        column: whose accuracy, by the table's head.
    """
    text = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    part = text.split(f"\n## {TABLE}\n")[1].split("\n## ")[0]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in _table(part)]
    where, megabytes = head.index(column), head.index("MB in all")
    return [Point(row[0], float(row[megabytes]), float(row[where].split(" ±")[0])) for row in rows]


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
        colour = _FRONT if point in best else _OTHERS
        axes.plot(point.megabytes, point.accuracy, "o", color=colour, ms=6 if point in best else 4)
    for point, height in zip(*_apart(all_), strict=True):
        axes.annotate(
            point.name,
            (point.megabytes, point.accuracy),
            xytext=(6, height),
            textcoords="offset points",
            va="center",
            color=_FRONT if point in best else "#616161",
            fontsize=8,
        )
    axes.set_title(f"accuracy {title}, mean over clients", fontsize=10)
    axes.set_xlabel("megabytes sent in the whole run, both ways")
    axes.margins(y=0.08)
    axes.set_xlim(right=1.22 * max(each.megabytes for each in all_))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _apart(all_: list[Point]) -> tuple[list[Point], list[float]]:
    """Return the points from below to above, and by how many points of type each one's name is moved from it."""
    ordered = sorted(all_, key=lambda each: each.accuracy)
    span = max(each.accuracy for each in all_) - min(each.accuracy for each in all_)
    height = 210.0 / 1.16 / span  # points of type for a unit of accuracy
    moved: list[float] = []
    for number, point in enumerate(ordered):
        beside = [
            moved[other] + ordered[other].accuracy * height
            for other in range(number)
            if abs(ordered[other].megabytes - point.megabytes) < 60  # about a name's width
        ]
        lowest = max(beside, default=float("-inf")) + 8.5
        moved.append(max(0.0, lowest - point.accuracy * height))
    return ordered, moved


if __name__ == "__main__":
    draw(PICTURE)
