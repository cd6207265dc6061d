"""Whose results were refused, and who has been put aside for it: for the whole run, over restarts."""

from collections.abc import Iterable
from heapq import nlargest
from typing import NamedTuple

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.named import MOST_TOLD
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.steered import readmitted


class Refused(NamedTuple):
    """How many results of one worker were refused, and why the last one."""

    results: int
    reason: str
    """Why the last one was refused."""
    forgiven: int = 0
    """How many of the first ones do not count against it any more: an operator has given it work again."""


class Refusals:
    """Refused results by worker's name, as they are written."""

    def __init__(self, database: Database, most: int) -> None:
        """Read how it stands.

        Args:
            database: of the run.
            most: refused results with which a worker is put aside.
        """
        forgiven = readmitted(database)
        self._by_worker = {
            worker: Refused(*row, forgiven=forgiven.get(worker, 0)) for worker, row in database.refusals().items()
        }
        self._most = most

    def with_another(self, worker: str, reason: str) -> Refused:
        """Return how a worker stands once another of its results is refused; nothing is changed."""
        before = self._by_worker.get(worker, Refused(0, ""))
        return before._replace(results=before.results + 1, reason=reason)

    def with_none_counted(self, worker: str) -> Refused:
        """Return how a worker stands once none of what was refused so far counts against it; nothing is changed."""
        before = self._by_worker.get(worker, Refused(0, ""))
        return before._replace(forgiven=before.results)

    def put(self, worker: str, refused: Refused) -> None:
        """Note how a worker stands now."""
        self._by_worker[worker] = refused

    def is_too_much(self, refused: Refused) -> bool:
        """Tell whether who stands so is put aside."""
        return refused.results - refused.forgiven >= self._most

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

    @property
    def results(self) -> int:
        """How many results were refused, of all workers."""
        return sum(refused.results for refused in self._by_worker.values())

    @property
    def aside(self) -> int:
        """How many workers are put aside."""
        return sum(map(self.is_too_much, self._by_worker.values()))

    def messages(self) -> Iterable[pb.WorkerRefusals]:
        """Yield how the workers stand that had most results refused, by name."""
        worst = nlargest(MOST_TOLD, self._by_worker.items(), key=lambda item: item[1].results)
        for worker, refused in sorted(worst):
            aside = self.is_too_much(refused)
            yield pb.WorkerRefusals(worker=worker, results=refused.results, reason=refused.reason, aside=aside)
