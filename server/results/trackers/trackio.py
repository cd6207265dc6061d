"""Trackio: a run of a project on this machine, or, as its own variables say, on a server or in a Space."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lotteryfl.server.results.trackers.figures import Figures, Final, RunCard
from lotteryfl.server.results.trackers.onefeed import OneFeed
from lotteryfl.server.results.trackers.tracker import Tracker

if TYPE_CHECKING:
    from trackio.remote_client import RemoteClient

_SECONDS = 10.0
"""That a server has for an answer."""


class Trackio(Tracker):
    """Rows that each have an id of their own, made of the run and the round: trackio's storage takes none twice.

    `trackio.log` gives rows ids by chance and keeps them in a queue that dies with the process: we call what it does.
    """

    kind = "trackio"
    module = "trackio"

    def __init__(self, run: RunCard, where: str, feed: OneFeed) -> None:
        super().__init__(run, where, feed)
        self._config: dict[str, Any] | None = dict(run.settings)
        self._remote: RemoteClient | None = None
        self._token: str | None = None

    @classmethod
    def usual_place(cls, path: Path) -> str:  # noqa: ARG003 - the same for all
        """A project."""
        return "lotteryfl"

    def connect(self) -> None:
        """Find the server, if there is one."""
        from huggingface_hub import get_token
        from trackio.remote_client import RemoteClient
        from trackio.sqlite_storage import SQLiteStorage
        from trackio.utils import resolve_space_id_and_server_url

        SQLiteStorage.validate_project_name(self._where)
        space, server = resolve_space_id_and_server_url(None, None)
        self._token = get_token() if space else None
        if address := space or server:
            write_token = os.environ.get("TRACKIO_WRITE_TOKEN")
            patience = {"timeout": _SECONDS}
            self._remote = RemoteClient(address, self._token, write_token, httpx_kwargs=patience, verbose=False)

    def send(self, rounds: Sequence[Figures]) -> None:
        """Add rows."""
        self._add(
            [
                self._row(values, step, f"{figures.round}-{step}")
                for figures in rounds
                for step, values in figures.steps.items()
            ]
        )

    def finish(self, state: str, final: Final | None, last: Figures | None) -> None:  # noqa: ARG002
        """Add a row with what the run came to."""
        if final is not None and last is not None:
            self._add([self._row({f"summary/{k}": v for k, v in final.numbers.items()}, last.round, "summary")])

    def _row(self, values: Mapping[str, float], step: int, name: str) -> dict[str, Any]:
        """Return a row as trackio's servers take it."""
        return {
            "project": self._where,
            "run": self._run.name,
            "run_id": self._run.identity,
            "metrics": dict(values),
            "step": step,
            "config": self._config,
            "log_id": f"{self._run.identity}-{name}",
        }

    def _add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        from trackio.sqlite_storage import SQLiteStorage

        if self._remote is not None:
            self._remote.predict(api_name="/bulk_log", logs=list(rows), hf_token=self._token)
        else:
            SQLiteStorage.bulk_log(
                project=self._where,
                run=self._run.name,
                run_id=self._run.identity,
                metrics_list=[row["metrics"] for row in rows],
                steps=[row["step"] for row in rows],
                log_ids=[row["log_id"] for row in rows],
                config=self._config,
            )
        self._config = None  # once
