"""What a tracker is told of a run, by step."""

from pathlib import Path

from lotteryfl.server.results.trackers.figures import figures
from lotteryfl.server.store.record import RunRecord


def told(path: Path) -> dict[int, dict[str, float]]:
    """Return every step's figures, in order."""
    found: dict[int, dict[str, float]] = {}
    with RunRecord(path) as run:
        for each in figures(run.database, run.experiment):
            for step, values in each.steps.items():
                found.setdefault(step, {}).update(values)
    return dict(sorted(found.items()))
