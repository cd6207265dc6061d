"""The table of a comparison: one row for each group of runs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from tabulate import tabulate

from lotteryfl.server.results.reporting.data import RunData
from lotteryfl.server.results.reporting.groups import Group
from lotteryfl.server.results.spread import Spread, spread

TARGET_SHARE = 0.9
"""The share of the best accuracy of all groups to which the cost in megabytes is measured."""


class Targets(NamedTuple):
    """Accuracies that megabytes are counted to."""

    personalised: float
    downloaded: float


@dataclass(frozen=True)
class Figures:
    """What the runs of a group came to. Accuracies are in [0, 1], each a mean over clients; all is over seeds."""

    label: str
    strategy: str
    seeds: tuple[int, ...]
    is_finished: bool
    personalised_last: Spread
    personalised_best: Spread
    downloaded_last: Spread
    downloaded_best: Spread
    worst_decile: Spread
    """The worst tenth of the clients: their personalised accuracies in the last round."""
    global_last: Spread | None
    """Personalised, on the task's global test data; None: not measured."""
    density: Spread
    megabytes_to_personalised: Spread | None
    """Down and up until the personalised accuracy was the target; None: not every seed got there."""
    megabytes_to_downloaded: Spread | None
    """The same by the downloaded accuracy."""
    megabytes: Spread
    """Down and up in the whole run."""
    seconds: Spread
    """What the runs took by the wall clock."""

    def as_json(self) -> dict[str, object]:
        """Return the figures with every spread as mean and std."""
        values: dict[str, object] = {}
        for key, value in asdict(self).items():
            values[key] = {"mean": value.mean, "std": value.std} if isinstance(value, Spread) else value
        return values


def target_accuracies(groups: Sequence[Group]) -> Targets:
    """Return nine tenths of the best mean accuracies that any group had in any round."""
    personalised = (spread([float(run.rounds.personalised.max()) for run in group.runs]).mean for group in groups)
    downloaded = (spread([float(run.rounds.downloaded.max()) for run in group.runs]).mean for group in groups)
    return Targets(TARGET_SHARE * max(personalised), TARGET_SHARE * max(downloaded))


def figures(group: Group, targets: Targets) -> Figures:
    """Sum a group up.

    Args:
        group: the runs.
        targets: accuracies that megabytes are counted to.
    """

    def over(values: Sequence[float]) -> Spread | None:
        return spread(values) if all(map(math.isfinite, values)) else None

    def each(runs: Sequence[RunData]) -> dict[str, Spread]:
        return {
            "personalised_last": spread([float(run.rounds.personalised[-1]) for run in runs]),
            "personalised_best": spread([float(run.rounds.personalised.max()) for run in runs]),
            "downloaded_last": spread([float(run.rounds.downloaded[-1]) for run in runs]),
            "downloaded_best": spread([float(run.rounds.downloaded.max()) for run in runs]),
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
        megabytes_to_personalised=over(
            [run.megabytes_to(targets.personalised, run.rounds.personalised) for run in group.runs]
        ),
        megabytes_to_downloaded=over(
            [run.megabytes_to(targets.downloaded, run.rounds.downloaded) for run in group.runs]
        ),
        **each(group.runs),
    )


def table(rows: Sequence[Figures], targets: Targets, style: str) -> str:
    """Return the table of a comparison.

    Args:
        rows: the groups' figures.
        targets: accuracies that megabytes were counted to.
        style: as tabulate has it: "simple", "github" or "html".
    """
    headers = ["", "personalised", "best", "worst 10 %", "downloaded", "best", "density"]
    headers += [f"MB to {targets.personalised:.3f} personalised", f"to {targets.downloaded:.3f} downloaded"]
    headers += ["MB in all", "seconds"]
    cells = [
        [
            row.label + ("" if row.is_finished else " (unfinished)"),
            *(
                _accuracy(row, row.personalised_last),
                _accuracy(row, row.personalised_best),
                _accuracy(row, row.worst_decile),
            ),
            *(_accuracy(row, row.downloaded_last), _accuracy(row, row.downloaded_best)),
            f"{row.density.mean:.3f}",
            _megabytes(row.megabytes_to_personalised),
            _megabytes(row.megabytes_to_downloaded),
            f"{row.megabytes.mean:,.1f}",
            f"{row.seconds.mean:,.0f}",
        ]
        for row in rows
    ]
    if any(row.global_last for row in rows):
        headers.insert(6, "global")
        for cell, row in zip(cells, rows, strict=True):
            cell.insert(6, "–" if row.global_last is None else _accuracy(row, row.global_last))
    alignment = ("left", *["right"] * (len(headers) - 1))
    return tabulate(cells, headers=headers, tablefmt=style, colalign=alignment, disable_numparse=True)


def _megabytes(value: Spread | None) -> str:
    return "–" if value is None else f"{value.mean:,.1f}"


def _accuracy(row: Figures, value: Spread) -> str:
    return f"{value.mean:.3f} ± {value.std:.3f}" if len(row.seeds) > 1 else f"{value.mean:.3f}"
