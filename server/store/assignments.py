"""How one client's work in one round stands: what run.db keeps and the lease table decides."""

from typing import Literal, NamedTuple, Self

from lotteryfl.common.names import ASSIGNMENT_ID, WorkerId

State = Literal["waiting", "leased", "done", "dropped"]


class AssignmentId(NamedTuple):
    """Names one attempt at one client's work in one round: a fencing token."""

    round: int
    client: int
    attempt: int

    def __str__(self) -> str:
        return f"r{self.round}-c{self.client}-a{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the id that `str` wrote; None for anything else."""
        match = ASSIGNMENT_ID.fullmatch(text)
        return cls(*map(int, match.groups())) if match else None


class Standing(NamedTuple):
    """How an assignment stands."""

    id: AssignmentId
    """The assignment's name with its newest attempt; 0: it has not been leased yet."""
    state: State = "waiting"
    worker: WorkerId = WorkerId("")
    """Who holds it, or had it last."""
    reason: str = ""
    """Why it was taken back or dropped."""
    forgiven: int = 0
    """Attempts that do not count towards `max_attempts`: of earlier tries of the round, or lost by the coordinator."""

    def has_one_left(self, most: int) -> bool:
        """Tell whether, not begun again yet, it has failed at all of most attempts but the last."""
        return 0 < self.id.attempt - self.forgiven == most - 1

    def leased_to(self, worker: WorkerId, *, forgiven: bool = False) -> Self:
        """Return how it stands once a worker has another attempt at it, which does not count if it is forgiven."""
        id_ = self.id._replace(attempt=self.id.attempt + 1)
        return self._replace(id=id_, state="leased", worker=worker, reason="", forgiven=self.forgiven + forgiven)


class Lease(NamedTuple):
    """One worker's right to one attempt, until it expires."""

    id: AssignmentId
    worker: WorkerId
    expires: float
