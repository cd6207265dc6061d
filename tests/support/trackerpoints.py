"""Every point that trackers have, read with their own libraries: one that is there twice is counted twice."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.told import told

if TYPE_CHECKING:
    import mlflow

Points = Counter[tuple[str, int]]


def expected(run: Path) -> Points:
    """Return the points of a run's rounds."""
    return Counter((name, step) for step, values in told(run).items() for name in values)


def of_tensorboard(folder: Path) -> Points:
    """Read event files as TensorBoard does; what a text is of is no point."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return Counter((name, event.step) for name in events.Tags()["scalars"] for event in events.Scalars(name))


def of_trackio(project: str, name: str, folder: Path) -> Points:
    """Read trackio's own database of a project; what the run came to in the end is no point."""
    file = folder / f"{project}.db"
    if not file.exists():
        return Counter()
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        try:
            rows = database.execute("SELECT step, metrics FROM metrics WHERE run_name = ?", (name,)).fetchall()
        except sqlite3.OperationalError:  # it is being made
            return Counter()
    return Counter(
        (metric, step) for step, metrics in rows for metric in json.loads(metrics) if not metric.startswith("summary/")
    )


def of_mlflow(uri: str, run: str) -> Points:
    """Ask MLflow for every metric's history; what the run came to in the end is no point."""
    import mlflow

    client, found = mlflow.MlflowClient(uri), find_mlflow(uri, run)
    names = [name for name in found.data.metrics if not name.startswith("summary/")]
    return Counter((name, point.step) for name in names for point in client.get_metric_history(found.info.run_id, name))


def find_mlflow(uri: str, run: str) -> "mlflow.entities.Run":
    """Return the one run of a name."""
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiments = [each.experiment_id for each in client.search_experiments(filter_string="name LIKE 'lotteryfl %'")]
    (found,) = [each for each in client.search_runs(experiments) if each.info.run_name == run]
    return found
