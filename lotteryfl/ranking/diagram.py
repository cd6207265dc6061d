"""A critical-difference diagram: mean ranks on a line, with bars over strategies that do not differ."""

from pathlib import Path
from typing import TYPE_CHECKING

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.ranking.significance import Ranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(ranking: Ranking, title: str, path: Path) -> None:
    """Write `picture` to a file.

    Raises:
        LotteryFLError: the extra `rank` is not installed, or the file cannot be written.
    """
    figure = picture(ranking, title)
    try:
        figure.savefig(path, metadata={"Software": None})
    except OSError as error:
        raise LotteryFLError(f"{path}: cannot be written: {error.strerror or error}") from error


def picture(ranking: Ranking, title: str) -> "Figure":
    """Draw ranks as Demšar does (2006, figure 1), by scikit-posthocs.

    Raises:
        LotteryFLError: the extra `rank` is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from scikit_posthocs import critical_difference_diagram
    except ImportError as error:
        raise LotteryFLError("a picture of ranks needs scikit-posthocs: pip install 'lotteryfl[rank]'") from error
    figure = Figure(figsize=(9, 1.2 + 0.25 * len(ranking.labels)), dpi=110, layout="constrained")
    axes = figure.subplots()
    critical_difference_diagram(
        dict(zip(ranking.labels, ranking.mean_ranks, strict=True)),
        ranking.nemenyi(),
        alpha=ranking.alpha,
        ax=axes,
    )
    # The library's own bar of that length lies over the ranks.
    told = f"{title} (critical difference {ranking.critical_difference:.2f})"
    axes.set_title(told if not ranking.undecided else f"{told}: not decidable")
    return figure
