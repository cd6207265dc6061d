"""How all pictures look: colours that everybody can tell apart, sizes that can be read in a README."""

from pathlib import Path
from typing import TYPE_CHECKING

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.server.results.foreigntext import as_it_is

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#333333"
PALE = "#bbbbbb"
PERSONALISED, DOWNLOADED = "#0072B2", "#D55E00"  # of Okabe and Ito's palette, like all of these
_COLOURS = (PERSONALISED, DOWNLOADED, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":")
_WIDTH, _DPI = 9.0, 110


def line_style(index: int) -> tuple[str, str]:
    """Return colour and dashes of the index-th of up to 21 lines."""
    return _COLOURS[index % len(_COLOURS)], _DASHES[index // len(_COLOURS) % len(_DASHES)]


def new_figure(title: str, height: float) -> "Figure":
    """Return an empty figure of the usual width.

    Raises:
        LotteryFLError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LotteryFLError("a report needs matplotlib: pip install 'lotteryfl[report]'") from error
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    figure.suptitle(title, fontsize=12, color=INK)
    return figure


def tidy(axes: "Axes", x: str, y: str, title: str = "") -> None:
    """Give axes their labels, a quiet grid, and no box."""
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.set_title(title, fontsize=10, color=INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)


def legend_below(figure: "Figure", axes: "Axes") -> None:
    """Put the legend of axes under the whole figure, up to four entries beside each other."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), 4)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK, fontsize=9)


def save(figure: "Figure", path: Path) -> None:
    """Write a picture.

    Raises:
        LotteryFLError: it cannot be written.
    """
    try:
        as_it_is(figure).savefig(path)
    except OSError as error:
        raise LotteryFLError(f"{path}: cannot be written: {error.strerror or error}") from error
