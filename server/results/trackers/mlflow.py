"""MLflow: a run on a tracking server or in a local database, found again by a tag."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lotteryfl.server.results.trackers.figures import Figures, Final, RunCard
from lotteryfl.server.results.trackers.onefeed import OneFeed
from lotteryfl.server.results.trackers.tracker import Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run

_TAG = "lotteryfl.run"
_MOST_PARAMS, _MOST_METRICS = 100, 1000
"""That a call may have."""
_LONGEST = 6000
"""Characters of a parameter."""
_ENDS = {"finished": "FINISHED", "failed": "FAILED"}

_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""It is we who try again, for as long as there is time; alone it would for minutes."""


class MLflow(Tracker):
    """A run in an experiment called after the task. What is there is asked of it before anything is added."""

    kind = "mlflow"
    module = "mlflow"

    def __init__(self, run: RunCard, where: str, feed: OneFeed) -> None:
        super().__init__(run, where, feed)
        self._there: set[tuple[str, int]] = set()
        self._id = ""

    @classmethod
    def usual_place(cls, path: Path) -> str:
        """As the environment says, or a file beside the run."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{path.resolve().parent / 'mlflow.db'}"

    def connect(self) -> None:
        """Search for the run, or create it."""
        for name, value in _IMPATIENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._client = MlflowClient(self._where)
        found = self._found()
        self._id = found.info.run_id
        self._there = {
            (name, metric.step)
            for name in found.data.metrics
            for metric in self._client.get_metric_history(self._id, name)
        }
        self._tell_settings(found)

    def send(self, rounds: Sequence[Figures]) -> None:
        """Log in batches."""
        self._add(
            [
                (name, value, figures.at, step)
                for figures in rounds
                for step, values in figures.steps.items()
                for name, value in values.items()
            ]
        )

    def finish(self, state: str, final: Final | None, last: Figures | None) -> None:
        """Log what the run came to, and end it there."""
        if final is not None and last is not None:
            self._add([(f"summary/{name}", value, last.at, last.round) for name, value in final.numbers.items()])
            for name, value in final.words.items():
                self._client.set_tag(self._id, f"lotteryfl.{name}", value)
        if state in _ENDS:
            self._client.set_terminated(self._id, _ENDS[state])

    def _found(self) -> "Run":
        name = f"lotteryfl {self._run.task}"
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        runs = self._client.search_runs([experiment_id], f"tags.`{_TAG}` = '{self._run.identity}'", max_results=1)
        if not runs:
            tags = {_TAG: self._run.identity}
            return self._client.create_run(experiment_id, run_name=self._run.name, tags=tags)
        self._client.update_run(runs[0].info.run_id, status="RUNNING")
        return runs[0]

    def _tell_settings(self, found: "Run") -> None:
        from mlflow.entities import Param

        params = [
            Param(name, str(value)[:_LONGEST])
            for name, value in self._run.settings.items()
            if name not in found.data.params  # what was told once cannot be told otherwise
        ]
        for start in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + _MOST_PARAMS])

    def _add(self, points: Sequence[tuple[str, float, float, int]]) -> None:
        from mlflow.entities import Metric

        new: list[Any] = [
            Metric(name, value, round(at * 1000), step)
            for name, value, at, step in points
            if (name, step) not in self._there
        ]
        for start in range(0, len(new), _MOST_METRICS):
            part = new[start : start + _MOST_METRICS]
            self._client.log_batch(self._id, metrics=part)
            self._there |= {(metric.key, metric.step) for metric in part}
