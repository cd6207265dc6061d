"""Pictures over rounds: the score and all else that is measured, and bytes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lotteryfl.server.results.foreigntext import as_label
from lotteryfl.server.results.reporting.data import FloatArray, IntArray, RunData
from lotteryfl.server.results.reporting.groups import Group
from lotteryfl.server.results.reporting.style import (
    DOWNLOADED,
    INK,
    PERSONALISED,
    legend_below,
    line_style,
    new_figure,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROUND = "round (last dot: every client, once more)"
_SENT = "megabytes sent, both ways"


def draw_accuracy(groups: Sequence[Group]) -> "Figure":
    """Draw the score against rounds and against megabytes.

    One group has a line for the downloaded and one for the personalised model; of several, each has a row of panels.
    """
    phases = ("personalised", "downloaded")
    alone = len(groups) == 1
    score = groups[0].score
    figure = new_figure(f"Test {score.name}, mean over clients{_bands(groups)}", 4.0 if alone else 6.6)
    panels = figure.subplots(1 if alone else 2, 2, sharey="row", squeeze=False)
    for row, phase in enumerate(phases):
        left, right = panels[0 if alone else row]
        for index, group in enumerate(groups):
            colour, dashes = line_style(row if alone else index)
            label = f"{phase} model" if alone else group.title
            scores = group.over_runs(_scores(phase))
            for axes, x in ((left, group.rounds), (right, group.sent)):
                _line(axes, x, scores, colour, dashes, label, has_dot=group.first.is_final)
        title = "" if alone else f"{phase} model"
        tidy(left, _ROUND, score.name, title)
        tidy(right, _SENT, "", title)
        right.set_xlim(left=0)
    if alone:
        corner = "lower right" if score.higher_is_better else "upper right"
        panels[0][0].legend(loc=corner, frameon=False, labelcolor=INK, fontsize=9)
    else:
        legend_below(figure, panels[0][0])
    return figure


def draw_values(groups: Sequence[Group]) -> "Figure | None":
    """Draw what a task's own objective measures beside its score, a panel for each, personalised; None: nothing."""
    names = sorted(set.intersection(*(set(group.measured) for group in groups)) - {groups[0].score.name})
    if not names:
        return None
    rows = -(-len(names) // 2)
    figure = new_figure(f"On test data, personalised, mean over clients{_bands(groups)}", 1.4 + 2.4 * rows)
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        for index, group in enumerate(groups):
            colour, dashes = line_style(index)
            values = group.over_runs(_values(name))
            _line(axes, group.rounds, values, colour, dashes, group.title, has_dot=group.first.is_final)
        tidy(axes, _ROUND, name)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    legend_below(figure, panels[0])
    return figure


def draw_global(groups: Sequence[Group]) -> "Figure | None":
    """Draw score and loss of the shared model on global test data; None: no group has measured it."""
    names = list(dict.fromkeys((groups[0].score.name, "loss")))
    found = {(index, name): group.curve(name) for index, group in enumerate(groups) for name in names}
    if not any(found.values()):
        return None
    figure = new_figure(f"Shared model on global test data{_bands(groups)}", 3.9 if len(groups) == 1 else 4.6)
    (panels,) = figure.subplots(1, len(names), squeeze=False)
    for axes, name in zip(panels, names, strict=True):
        for index, group in enumerate(groups):
            if (curve := found[index, name]) is not None:
                rounds, mean, std = curve
                colour, dashes = line_style(index)
                _line(axes, rounds, (mean, std), colour, dashes, group.title, has_dot=False)
        tidy(axes, "after round", name)
    if len(groups) > 1:
        legend_below(figure, panels[0])
    return figure


def draw_traffic(groups: Sequence[Group]) -> "Figure":
    """Draw the megabytes of every round, down and up, for each of its clients; θ_0 counts with the first round."""
    figure = new_figure(
        f"Bytes sent in a round, mean over its clients{_bands(groups)}", 3.9 if len(groups) == 1 else 4.6
    )
    (panels,) = figure.subplots(1, 2, sharey=True, squeeze=False)
    directions: tuple[tuple[str, Callable[[RunData], FloatArray]], ...] = (
        ("down: coordinator to workers", lambda run: run.down / run.rounds.clients),
        ("up: workers to coordinator", lambda run: run.rounds.up / run.rounds.clients),
    )
    for axes, (title, series) in zip(panels, directions, strict=True):
        for index, group in enumerate(groups):
            mean, std = group.over_runs(series)
            colour, dashes = line_style(index)
            if len(groups) == 1:
                axes.bar(group.rounds, mean / 1e6, color=PERSONALISED if axes is panels[0] else DOWNLOADED)
            else:
                spread = (mean / 1e6, std / 1e6)
                _line(axes, group.rounds, spread, colour, dashes, group.title, has_dot=False)
        tidy(
            axes,
            "round (the last: every client, once more)",
            "megabytes for each client" if axes is panels[0] else "",
            title,
        )
    panels[0].set_ylim(0, 1.04 * panels[0].get_ylim()[1])
    if len(groups) > 1:
        legend_below(figure, panels[0])
    return figure


def _scores(phase: str) -> Callable[[RunData], FloatArray]:
    return (lambda run: run.rounds.downloaded) if phase == "downloaded" else (lambda run: run.rounds.personalised)


def _values(name: str) -> Callable[[RunData], FloatArray]:
    return lambda run: run.rounds.values[name][1]


def _line(
    axes: "Axes",
    x: FloatArray | IntArray,
    values: tuple[FloatArray, FloatArray],
    colour: str,
    dashes: str,
    label: str,
    *,
    has_dot: bool,
) -> None:
    mean, std = values
    axes.plot(x, mean, dashes, color=colour, linewidth=1.6, label=as_label(label))
    if std.any():
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
    if has_dot:
        axes.plot(x[-1:], mean[-1:], "o", color=colour, markersize=5)


def _bands(groups: Sequence[Group]) -> str:
    return "; bands: ± standard deviation over seeds" if any(len(group.runs) > 1 for group in groups) else ""
