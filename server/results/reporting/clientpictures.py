"""Pictures of clients: how their scores are distributed, and where in the model their tickets are dense."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lotteryfl.common.training.score import Score
from lotteryfl.server.results.foreigntext import as_label
from lotteryfl.server.results.reporting.data import FloatArray
from lotteryfl.server.results.reporting.groups import Group
from lotteryfl.server.results.reporting.style import (
    DOWNLOADED,
    INK,
    PALE,
    PERSONALISED,
    legend_below,
    line_style,
    new_figure,
    tidy,
)
from lotteryfl.server.results.spread import spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_BINS = 30


def draw_clients(groups: Sequence[Group]) -> "Figure":
    """Draw for each group the histogram of its clients' scores in the last round, of all seeds."""
    columns = min(len(groups), 2)
    rows = -(-len(groups) // columns)
    score = groups[0].score
    figure = new_figure(f"Test {score.name} of every client, last round", 1.3 + 2.3 * rows if rows > 1 else 4.1)
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    everyone = [client for group in groups for run in group.runs for client in run.clients]
    bins = _bins(score, [s for c in everyone for s in (c.score_personalised, c.score_downloaded)], len(groups))
    for axes, group in zip(panels, groups, strict=False):
        clients = [client for run in group.runs for client in run.clients]
        personalised = [client.score_personalised for client in clients]
        axes.hist(personalised, bins, color=PERSONALISED, alpha=0.75, label="personalised")
        downloaded = [client.score_downloaded for client in clients]
        axes.hist(downloaded, bins, histtype="step", color=DOWNLOADED, linewidth=1.6, label="downloaded")
        mean = spread([float(run.rounds.personalised[-1]) for run in group.runs]).mean  # both as in the table
        worst = spread([run.worst_decile() for run in group.runs]).mean
        axes.axvline(mean, color=INK, linewidth=1.3, label="personalised, mean")
        axes.axvline(worst, color=INK, linewidth=1.3, linestyle=":", label="personalised, worst 10 %")
        axes.yaxis.get_major_locator().set_params(integer=True)
        of_seeds = f" of {len(group.runs)} seeds" if len(group.runs) > 1 else ""
        heading = f"mean {mean:{score.digits}}, worst 10 % {worst:{score.digits}}"
        tidy(axes, "", f"clients{of_seeds}", f"{group.label}: {heading}")
    for axes in panels[len(groups) - columns : len(groups)]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(f"{score.name} on the client's own test set", color=INK)
    for axes in panels[len(groups) :]:
        axes.set_visible(False)
    legend_below(figure, panels[0])
    return figure


def draw_layers(groups: Sequence[Group]) -> "Figure | None":
    """Draw the density of each layer: mean, standard deviation and range over clients and seeds.

    None, where nobody has a mask.
    """
    styled = [(group, line_style(index)[0]) for index, group in enumerate(groups)]
    sparse = [(group, colour) for group, colour in styled if any(any(run.masks) for run in group.runs)]
    if not sparse:
        return None
    layers = list(dict.fromkeys(name for group, _ in sparse for name in group.first.layers))
    figure = new_figure(
        "Density of the tickets, layer by layer",
        1.8 + len(layers) * max(0.34, 0.16 * len(sparse)),
    )
    axes = figure.subplots()
    for index, (group, colour) in enumerate(sparse):
        densities = np.concatenate([run.layer_densities for run in group.runs])
        offset = (index - (len(sparse) - 1) / 2) * 0.7 / len(sparse)
        y = np.array([layers.index(name) for name in group.first.layers]) + offset
        mean, std = densities.mean(axis=0), densities.std(axis=0)
        low, high = densities.min(axis=0), densities.max(axis=0)
        axes.hlines(y, low, high, color=colour, linewidth=1)
        axes.hlines(y, np.maximum(mean - std, low), np.minimum(mean + std, high), color=colour, linewidth=4, alpha=0.5)
        axes.plot(mean, y, "o", color=colour, markersize=5, label=as_label(group.title))
    tidy(axes, "share of the weights that is kept (dot: mean over clients; thick: ± std; thin: range)", "")
    if len(sparse) == 1:
        axes.axvline(
            float(sparse[0][0].first.rounds.density[-1]), color=PALE, linewidth=1.2, zorder=0.5, label="whole model"
        )
    axes.set_yticks(range(len(layers)), layers)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_xlim(left=0)
    legend_below(figure, axes)
    return figure


def _bins(score: Score, scores: Sequence[float], groups: int) -> FloatArray:
    """Return the edges of the bars of scores, two of each client; accuracies have theirs at whole twentieths, up to 1.

    Args:
        score: what they are.
        scores: of all clients of all groups.
        groups: how many.
    """
    least, most = min(scores), max(scores)
    if not score.own:
        least, most = np.floor(least * 20) / 20, 1
    bars = int(np.clip(len(scores) // 2 // groups, 10, _MOST_BINS))
    return np.histogram_bin_edges([], bars, (least, most))
