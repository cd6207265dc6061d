"""The report as one HTML page: everything is in it, nothing is loaded from elsewhere."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from lotteryfl.common.experiment.experiment import to_toml
from lotteryfl.common.experiment.settings import AccessSettings
from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.tasks import without_places
from lotteryfl.common.training.score import Score
from lotteryfl.server.results.reporting.figures import Figures, Targets, table, values_table
from lotteryfl.server.results.reporting.groups import Group

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #333; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { font-weight: 600; line-height: 1.2 }
figure { margin: 2rem 0 } figcaption { color: #555 } img { max-width: 100%; height: auto }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid #ddd; white-space: nowrap }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; font-size: 0.85rem }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Picture(NamedTuple):
    """A picture of the report."""

    path: Path
    """Where its PNG is."""
    title: str
    caption: str
    """What it shows and how to read it."""


def render(
    groups: Sequence[Group],
    rows: Sequence[Figures],
    targets: Targets,
    pictures: Sequence[Picture],
    notes: Sequence[str],
) -> str:
    """Return the page.

    Args:
        groups: the runs shown.
        rows: their figures.
        targets: scores that megabytes are counted to.
        pictures: to embed, in order.
        notes: what is not shown, and why.
    """
    tasks = sorted({task_id(group.first.experiment.task.name) for group in groups})
    title = f"{', '.join(tasks)}: {', '.join(group.label for group in groups)}"
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f'<div class="wide">{table(rows, targets, "html")}</div>',
            f"<p>{escape(_legend(targets, groups[0].score))}</p>",
            *([f'<div class="wide">{others}</div>'] if (others := values_table(rows, "html")) else []),
            *(f"<p>{escape(note)}</p>" for note in notes),
            *map(_figure, pictures),
            "<h2>Experiments</h2>",
            *_experiments(groups),
            "</body></html>\n",
        )
    )


def _legend(targets: Targets, score: Score) -> str:
    what, one = ("Scores", "score") if score.own else ("Accuracies", "accuracy")
    tenth = "worst" if score.own else "lowest"
    personalised, downloaded = (format(target, score.digits) for target in targets)
    of_best = "a tenth from" if score.own else "nine tenths of"
    return (
        f"{what} are means over clients ± their standard deviation over seeds, on the clients' own test sets: "
        "personalised after local training, downloaded before it; first in the last round, in which every client is "
        "measured, then in the best one. "
        f"Worst 10 %: mean of the {tenth} tenth of the clients, personalised, last round. "
        "MB are 10^6 bytes, down and up, in the whole run and "
        f"until the personalised {one} was {personalised} or the downloaded one {downloaded}, {of_best} the best here. "
        "Seconds are the rounds' by the wall clock."
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    return (
        f"<h2>{escape(picture.title)}</h2>\n"
        f'<figure><img alt="{escape(picture.title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _experiments(groups: Sequence[Group]) -> Iterable[str]:
    for group in groups:
        seeds = ", ".join(str(run.experiment.seed) for run in group.runs)
        summary = f"{group.label}: seed{'s'[: len(group.runs) > 1]} {seeds}"
        experiment = group.first.experiment
        # Who may work for a run, and where its data lay, is nobody's business who reads a report.
        shown = without_places(experiment).model_copy(update={"access": AccessSettings()})
        yield f"<details><summary>{escape(summary)}</summary><pre>{escape(to_toml(shown))}</pre></details>"
