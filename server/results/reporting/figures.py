"""The table of a comparison: one row for each group of runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from tabulate import tabulate

from lotteryfl.common.training.score import Score
from lotteryfl.server.results.reporting.data import RunData
from lotteryfl.server.results.reporting.groups import Group, common_score
from lotteryfl.server.results.spread import Spread, spread

TARGET_SHARE = 0.9
"""The share of the best score of all groups to which the cost in megabytes is measured."""


_OPTIONAL = {
    ("global",): ("global_last",),
    ("shared, global", "best"): ("shared_last", "shared_best"),
    ("new, personalised", "new, downloaded"): ("new_personalised", "new_downloaded"),
}
"""Columns of a table that are there only where a run has measured them, by the fields of `Figures`."""


class Targets(NamedTuple):
    """Scores that megabytes are counted to."""

    personalised: float
    downloaded: float


@dataclass(frozen=True)
class Figures:
    """What the runs of a group came to, over seeds. Scores are means over clients; accuracies are in [0, 1]."""

    label: str
    strategy: str
    seeds: tuple[int, ...]
    is_finished: bool
    personalised_last: Spread
    personalised_best: Spread
    downloaded_last: Spread
    downloaded_best: Spread
    worst_decile: Spread
    """The worst tenth of the clients: their personalised scores in the last round."""
    global_last: Spread | None
    """Personalised, on the task's global test data; None: not measured."""
    shared_last: Spread | None
    """The shared model itself, on the task's global test data, as it was measured last; None: it was not."""
    shared_best: Spread | None
    """The same, as it was best."""
    new_downloaded: Spread | None
    """Clients that took part in no round, in the last: the model as they got it; None: there are none."""
    new_personalised: Spread | None
    """The same after their local training."""
    density: Spread
    megabytes_to_personalised: Spread | None
    """Down and up until the personalised score was the target; None: not every seed got there."""
    megabytes_to_downloaded: Spread | None
    """The same by the downloaded score."""
    megabytes: Spread
    """Down and up in the whole run."""
    seconds: Spread
    """What the runs took by the wall clock."""
    score: Score
    """What they are judged by."""
    values: dict[str, tuple[Spread, Spread]]
    """By name, all that the task's own objective measures: downloaded and personalised, in the last round."""

    def as_json(self) -> dict[str, object]:
        """Return the figures with every spread as mean and std."""
        found: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            found[field.name] = _mean_and_std(value) if isinstance(value, Spread) else value
        del found["score"], found["values"]
        if self.score.own:
            found["values"] = {
                name: {"downloaded": _mean_and_std(downloaded), "personalised": _mean_and_std(personalised)}
                for name, (downloaded, personalised) in self.values.items()
            }
        return found


def target_accuracies(groups: Sequence[Group]) -> Targets:
    """Return nine tenths of the best mean accuracies that any group had in any round; or of scores as much.

    Raises:
        LotteryFLError: the groups are judged by different scores.
    """
    score = common_score(groups)
    personalised = (spread([score.best(run.rounds.personalised.tolist()) for run in g.runs]).mean for g in groups)
    downloaded = (spread([score.best(run.rounds.downloaded.tolist()) for run in g.runs]).mean for g in groups)
    return Targets(*(score.lenient(score.best(means), TARGET_SHARE) for means in (personalised, downloaded)))


def figures(group: Group, targets: Targets) -> Figures:
    """Sum a group up.

    Args:
        group: the runs.
        targets: scores that megabytes are counted to.
    """
    score = group.score

    def over(values: Sequence[float]) -> Spread | None:
        return spread(values) if all(map(math.isfinite, values)) else None

    def each(runs: Sequence[RunData]) -> dict[str, Spread]:
        return {
            "personalised_last": spread([float(run.rounds.personalised[-1]) for run in runs]),
            "personalised_best": spread([score.best(run.rounds.personalised.tolist()) for run in runs]),
            "downloaded_last": spread([float(run.rounds.downloaded[-1]) for run in runs]),
            "downloaded_best": spread([score.best(run.rounds.downloaded.tolist()) for run in runs]),
            "worst_decile": spread([run.worst_decile() for run in runs]),
            "density": spread([float(run.rounds.density[-1]) for run in runs]),
            "megabytes": spread([float(run.sent[-1]) for run in runs]),
            "seconds": spread([float(run.rounds.seconds.sum()) for run in runs]),
        }

    return Figures(
        label=group.label,
        strategy=group.first.experiment.strategy.name,
        seeds=tuple(run.experiment.seed for run in group.runs),
        is_finished=all(run.is_finished for run in group.runs),
        global_last=over([run.globally() for run in group.runs]),
        new_downloaded=over([run.newcomers()[0] for run in group.runs]),
        new_personalised=over([run.newcomers()[1] for run in group.runs]),
        shared_last=over([run.shared()[0] for run in group.runs]),
        shared_best=over([run.shared()[1] for run in group.runs]),
        megabytes_to_personalised=over(
            [run.megabytes_to(targets.personalised, run.rounds.personalised) for run in group.runs]
        ),
        megabytes_to_downloaded=over(
            [run.megabytes_to(targets.downloaded, run.rounds.downloaded) for run in group.runs]
        ),
        score=score,
        values={
            name: (
                spread([float(run.rounds.values[name][0][-1]) for run in group.runs]),
                spread([float(run.rounds.values[name][1][-1]) for run in group.runs]),
            )
            for name in group.measured
        },
        **each(group.runs),
    )


def table(rows: Sequence[Figures], targets: Targets, style: str) -> str:
    """Return the table of a comparison.

    Args:
        rows: the groups' figures.
        targets: scores that megabytes were counted to.
        style: as tabulate has it: "simple", "github" or "html".
    """
    score = rows[0].score
    personalised, downloaded = (format(target, score.digits) for target in targets)
    headers = [str(score) if score.own else "", "personalised", "best", "worst 10 %", "downloaded", "best", "density"]
    headers += [f"MB to {personalised} personalised", f"to {downloaded} downloaded"]
    headers += ["MB in all", "seconds"]
    cells = [
        [
            row.label + ("" if row.is_finished else " (unfinished)"),
            *(
                _score(row, row.personalised_last),
                _score(row, row.personalised_best),
                _score(row, row.worst_decile),
            ),
            *(_score(row, row.downloaded_last), _score(row, row.downloaded_best)),
            f"{row.density.mean:.3f}",
            _megabytes(row.megabytes_to_personalised),
            _megabytes(row.megabytes_to_downloaded),
            f"{row.megabytes.mean:,.1f}",
            f"{row.seconds.mean:,.0f}",
        ]
        for row in rows
    ]
    for names, keys in _OPTIONAL.items():
        found = [[getattr(row, key) for key in keys] for row in rows]
        if any(any(each) for each in found):
            headers[6:6] = names
            for cell, row, values in zip(cells, rows, found, strict=True):
                cell[6:6] = ["–" if value is None else _score(row, value) for value in values]
    alignment = ("left", *["right"] * (len(headers) - 1))
    return tabulate(cells, headers=headers, tablefmt=style, colalign=alignment, disable_numparse=True)


def values_table(rows: Sequence[Figures], style: str) -> str:
    """Return the table of all that the task's own objective measures; '' where there is none."""
    cells = [
        [row.label if not index else "", name, _score(row, personalised), _score(row, downloaded)]
        for row in rows
        for index, (name, (downloaded, personalised)) in enumerate(row.values.items())
    ]
    headers = ("", "", "personalised", "downloaded")
    alignment = ("left", "left", "right", "right")
    return tabulate(cells, headers, tablefmt=style, colalign=alignment, disable_numparse=True) if cells else ""


def _megabytes(value: Spread | None) -> str:
    return "–" if value is None else f"{value.mean:,.1f}"


def _score(row: Figures, value: Spread) -> str:
    mean, std = format(value.mean, row.score.digits), format(value.std, row.score.digits)
    return f"{mean} ± {std}" if len(row.seeds) > 1 else mean


def _mean_and_std(value: Spread) -> dict[str, float]:
    return {"mean": value.mean, "std": value.std}
