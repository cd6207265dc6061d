"""Whose results were refused, and who has been put aside for it: for the whole run, over restarts."""

from collections.abc import Iterable
from heapq import nlargest
from typing import NamedTuple

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.named import MOST_TOLD
from lotteryfl.server.store.rundb.database import Database


class Refused(NamedTuple):
    """How many results of one worker were refused, and why the last one."""

    results: int
    reason: str
    """Why the last one was refused."""


class Refusals:
    """Refused results by worker's name, as they are written."""

    def __init__(self, database: Database, most: int) -> None:
        """Read how it stands.

        Args:
            database: of the run.
            most: refused results with which a worker is put aside.
        """
        self._by_worker = {worker: Refused(*row) for worker, row in database.refusals().items()}
        self._most = most

    def with_another(self, worker: str, reason: str) -> Refused:
        """Return how a worker stands once another of its results is refused; nothing is changed."""
        return Refused(self._by_worker.get(worker, Refused(0, "")).results + 1, reason)

    def put(self, worker: str, refused: Refused) -> None:
        """Note how a worker stands now."""
        self._by_worker[worker] = refused

    def is_too_much(self, refused: Refused) -> bool:
        """Tell whether who stands so is put aside."""
        return refused.results >= self._most

    def why_aside(self, worker: str, refused: Refused | None = None) -> str:
        """Return why a worker gets no more work; '': it does.

        Args:
            worker: its name.
            refused: how it stands; None: as it was noted.
        """
        refused = refused or self._by_worker.get(worker)
        if refused is None or not self.is_too_much(refused):
            return ""
        return (
            f"worker {worker} is put aside for the rest of this run: "
            f"{refused.results} of its results were refused, the last for {refused.reason}"
        )

    def messages(self) -> Iterable[pb.WorkerRefusals]:
        """Yield how the workers stand that had most results refused, by name."""
        worst = nlargest(MOST_TOLD, self._by_worker.items(), key=lambda item: item[1].results)
        for worker, refused in sorted(worst):
            aside = self.is_too_much(refused)
            yield pb.WorkerRefusals(worker=worker, results=refused.results, reason=refused.reason, aside=aside)
