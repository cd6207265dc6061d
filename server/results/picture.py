"""The picture of who holds what: clients × classes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.tasks.partition import IntArray
from lotteryfl.server.results.foreigntext import as_it_is

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BUBBLES = 60
"""Clients that have room for a column of bubbles each; more are a heat map."""
_BLUE = "#0072B2"  # of Okabe and Ito's palette, which everybody can tell apart
_INK = "#333333"


def draw_holdings(counts: IntArray, title: str, skew: float, path: Path) -> None:
    """Draw how many examples of each class every client holds.

    Few clients have a bubble for each class, its area the number of examples. Many are a heat map of each client's
    class mix, ordered by the class that a client holds most of and how much of it is this class.

    Args:
        counts: (clients, classes).
        title: over the picture.
        skew: `label_skew` of the counts.
        path: where to; its suffix says in which format (.png, .svg, .pdf).

    Raises:
        LotteryFLError: matplotlib is not installed, or the file cannot be written in this format.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LotteryFLError("a picture needs matplotlib: pip install 'lotteryfl[report]'") from error
    clients, classes = counts.shape
    figure = Figure(figsize=(9, 1.7 + min(max(classes, 6), 30) * 0.3), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    if clients <= _MOST_BUBBLES:
        _bubbles(axes, counts)
    else:
        _heat_map(axes, counts)
    axes.set_title(f"{title}\nlabel skew {skew:.2f}", fontsize=11, color=_INK)
    axes.set_ylabel("class", color=_INK)
    step = -(-classes // 30)
    axes.set_yticks(range(0, classes, step))
    axes.tick_params(colors=_INK, labelsize=9)
    try:
        as_it_is(figure).savefig(path)
    except OSError as error:
        raise LotteryFLError(f"{path}: cannot be written: {error.strerror or error}") from error
    except ValueError as error:
        raise LotteryFLError(f"{path}: {error}") from error


def _bubbles(axes: "Axes", counts: IntArray) -> None:
    clients, classes = counts.shape
    cell = min(470 / clients, 19.0)  # points from one bubble's middle to the next
    biggest = (0.95 * cell) ** 2
    client, label = np.nonzero(counts)
    axes.scatter(client, label, s=biggest * counts[client, label] / counts.max(), color=_BLUE, linewidths=0)
    for size in sorted({int(counts.max()), max(1, round(counts.max() / 4))}):
        axes.scatter([], [], s=biggest * size / counts.max(), color=_BLUE, linewidths=0, label=str(size))
    axes.figure.legend(title="examples", loc="outside right upper", frameon=False, labelcolor=_INK, labelspacing=1)
    axes.set_xlim(-0.7, clients - 0.3)
    axes.set_ylim(-0.7, classes - 0.3)
    axes.set_xticks(range(0, clients, -(-clients // 20)))
    axes.set_xlabel("client", color=_INK)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _heat_map(axes: "Axes", counts: IntArray) -> None:
    mixes = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ranked = (-mixes).argsort(axis=1, kind="stable")
    order = np.lexsort((ranked[:, 1:2].sum(axis=1), -mixes.max(axis=1), ranked[:, 0]))
    image = axes.imshow(mixes[order].T, cmap="cividis", vmin=0, aspect="auto", interpolation="nearest", origin="lower")
    colours = axes.figure.colorbar(image, ax=axes, pad=0.01)
    colours.set_label("share of a client's examples", color=_INK)
    axes.set_xticks([])
    axes.set_xlabel(f"{len(counts)} clients, ordered by their largest class and its share", color=_INK)
    axes.spines[:].set_visible(False)
