"""A critical-difference diagram: mean ranks on a line, with bars over strategies that do not differ."""

from pathlib import Path

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.ranking.significance import Ranking


def draw(ranking: Ranking, title: str, path: Path) -> None:
    """Draw ranks as Demšar does (2006, figure 1), by scikit-posthocs.

    Raises:
        LotteryFLError: the extra `rank` is not installed, or the file cannot be written.
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
        cd=ranking.critical_difference,
        ax=axes,
    )
    axes.set_title(title if not ranking.undecided else f"{title}: not decidable")
    try:
        figure.savefig(path, metadata={"Software": None})
    except OSError as error:
        raise LotteryFLError(f"{path}: cannot be written: {error.strerror or error}") from error
