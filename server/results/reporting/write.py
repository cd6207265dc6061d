"""A whole report: the pictures as files, and the page with all of them in it."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lotteryfl.common.errors import LotteryFLError, TaskError
from lotteryfl.common.tasks import load_task
from lotteryfl.server.results.holdings import UNLABELLED, Holdings, heading, holdings
from lotteryfl.server.results.leftout import describe_left_out
from lotteryfl.server.results.picture import draw_holdings
from lotteryfl.server.results.reporting.clientpictures import draw_clients, draw_layers
from lotteryfl.server.results.reporting.curves import draw_accuracy, draw_global, draw_traffic, draw_values
from lotteryfl.server.results.reporting.data import RunData
from lotteryfl.server.results.reporting.figures import figures, target_accuracies
from lotteryfl.server.results.reporting.groups import Group
from lotteryfl.server.results.reporting.overlap import class_order, draw_overlap, measure_overlap
from lotteryfl.server.results.reporting.page import Picture, render
from lotteryfl.server.results.reporting.style import save
from lotteryfl.server.results.reporting.timeline import draw_timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger("lotteryfl.report")

_ACCURACY = (
    "Each point is the mean over the clients of a round, on their own test sets: after local training (personalised) "
    "and before it (downloaded). On the right against all bytes sent until then."
)
_VALUES = "By the task's own objective: each point is the mean over the clients of a round, after local training."
_GLOBAL = "The shared model itself, before any client has trained it, on test data of the whole task."
_CLIENTS = (
    "Each client counts once for each seed; worst 10 % is the mean of the {} tenth, over seeds the mean of theirs, "
    "as in the table."
)
_LAYERS = "The share of each prunable tensor's weights that the clients' last masks keep."
_OVERLAP = (
    "Of the weights that at least one of two clients keeps, the share that both keep (Jaccard index of their last "
    "masks); the diagonal is left out. Clients are ordered by the classes that they hold most of."
)
_TRAFFIC = (
    "Tensors with their frames, as they were really sent; θ_0, which each worker gets once, counts with the first "
    "round. A worker of several clients may get the whole model once in place of each one's weights."
)
_TIMELINE = (
    "From the lease to the result that counted; work that was lost is not shown. White is waiting: for the slowest "
    "client of the round, or for aggregation."
)


class _Held(NamedTuple):
    """Who holds what in an experiment, where it can be told."""

    holdings: Holdings | None
    why_not: str = ""


def write_report(groups: Sequence[Group], out: Path, tasks: Sequence[str]) -> Path:
    """Write a report into a folder, and return its page.

    Args:
        groups: what to show.
        out: the folder; made where it is missing.
        tasks: tasks of the user's own that may be imported, to tell which client holds which classes.

    Raises:
        LotteryFLError: matplotlib is missing, or the folder cannot be written.
    """
    held = _holdings(groups[0].first, tasks)
    if held.why_not:
        _log.warning("holdings.png is not drawn: %s", held.why_not)
    notes = ["Which client holds which classes is not known where this page was made."] if held.why_not else []
    notes += [
        f"{run.name}: {describe_left_out(missing)}"
        for group in groups
        for run in group.runs
        for missing in run.left_out
    ]
    targets = target_accuracies(groups)
    rows = [figures(group, targets) for group in groups]
    try:
        out.mkdir(parents=True, exist_ok=True)
        page = render(groups, rows, targets, list(_pictures(groups, held.holdings, out)), notes)
        path = out / "index.html"
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise LotteryFLError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    return path


def _pictures(groups: Sequence[Group], held: Holdings | None, out: Path) -> Iterator[Picture]:
    def saved(name: str, figure: "Figure", title: str, caption: str) -> Picture:
        save(figure, out / name)
        return Picture(out / name, title, caption)

    score = groups[0].score
    for name, figure, title, caption in _curves(groups):
        if figure is not None:
            yield saved(name, figure, title, caption)
    yield saved("clients.png", draw_clients(groups), "Clients", _CLIENTS.format("worst" if score.own else "lowest"))
    layers = draw_layers(groups)
    if layers is not None:
        yield saved("layers.png", layers, "Layers", _LAYERS)
    for number, group in enumerate(groups, start=1):
        suffix = "" if len(groups) == 1 else f"-{number}"
        counts = None if held is None or not _same_data(group, groups[0]) else held.counts[: len(group.first.masks)]
        order = range(len(group.first.masks)) if counts is None else class_order(counts)
        overlap = measure_overlap(group.first.masks, order)
        if overlap is not None and not overlap.is_of_one_mask:
            title = f"Tickets that look alike: {_run_title(group)}"
            yield saved(f"overlap{suffix}.png", draw_overlap(overlap, counts, group.label), title, _OVERLAP)
    yield saved("traffic.png", draw_traffic(groups), "Traffic", _TRAFFIC)
    for number, group in enumerate(groups, start=1):
        if len({lease.worker for lease in group.first.leases}) == 1:
            continue  # one thing after the other
        suffix = "" if len(groups) == 1 else f"-{number}"
        title = f"Workers: {_run_title(group)}"
        yield saved(f"timeline{suffix}.png", draw_timeline(group.first, group.label), title, _TIMELINE)
    if held is not None:
        experiment = groups[0].first.experiment
        draw_holdings(held.counts, heading(experiment), held.skew, out / "holdings.png")
        caption = "Training and validation examples of each class; label skew as in docs/data.md."
        yield Picture(out / "holdings.png", "Who holds what", caption)


def _curves(groups: Sequence[Group]) -> Iterator[tuple[str, "Figure | None", str, str]]:
    """Yield file name, figure (None: there is nothing to show), title and caption of the pictures over rounds."""
    score = groups[0].score
    name, title = ("score.png", score.name) if score.own else ("accuracy.png", "Accuracy")
    yield name, draw_accuracy(groups), title, _ACCURACY
    yield "global.png", draw_global(groups), "Shared model", _GLOBAL
    yield "values.png", draw_values(groups), "What else is measured", _VALUES


def _run_title(group: Group) -> str:
    return group.label if len(group.runs) == 1 else f"{group.label}, seed {group.first.experiment.seed}"


def _same_data(group: Group, other: Group) -> bool:
    """Tell whether the first runs of two groups have the same clients with the same data."""
    mine, its = group.first.experiment, other.first.experiment
    return (mine.task, mine.partition, mine.clients, mine.seed) == (its.task, its.partition, its.clients, its.seed)


def _holdings(run: RunData, tasks: Sequence[str]) -> _Held:
    """Count who holds what; a task of somebody's own is imported only if it is among `tasks`."""
    try:
        held = holdings(load_task(run.experiment, tasks), run.experiment.clients)
        return _Held(held) if held.labelled else _Held(None, UNLABELLED)
    except TaskError as error:
        return _Held(None, str(error))
