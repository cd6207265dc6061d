"""Bytes that were really sent and received, by round and client."""

from collections import Counter

from lotteryfl.server.store.assignments import AssignmentId
from lotteryfl.server.store.rundb.database import Database

_SHARED = "shared_bytes_down"


class Traffic:
    """Counts in memory; `flush` writes them inside the caller's next transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        down, up = database.total_bytes()
        self.down = down + shared_bytes(database)
        self.up = up
        self._pending_down: Counter[tuple[int, int]] = Counter()
        self._pending_up: Counter[tuple[int, int]] = Counter()
        self._pending_shared = 0

    def count(self, assignment_id: AssignmentId | None, *, down: int = 0, up: int = 0) -> None:
        """Count bytes of an assignment; None: of none in particular, such as θ_0 on its way to a worker."""
        self.down += down
        self.up += up
        if assignment_id is None:
            self._pending_shared += down
        else:
            self._pending_down[assignment_id[:2]] += down
            self._pending_up[assignment_id[:2]] += up

    @property
    def on_record(self) -> tuple[int, int]:
        """Bytes down and up that were counted before the last flush: a restart does not forget them."""
        pending = self._pending_down.total() + self._pending_shared
        return self.down - pending, self.up - self._pending_up.total()

    def of(self, assignment_id: AssignmentId) -> tuple[int, int]:
        """Return the bytes of all attempts at an assignment, down and up."""
        key = assignment_id[:2]
        down, up = self._database.bytes_of(*key)
        return down + self._pending_down[key], up + self._pending_up[key]

    def flush(self) -> None:
        """Write what was counted since the last flush."""
        for key in self._pending_down.keys() | self._pending_up.keys():
            self._database.count_bytes(*key, self._pending_down[key], self._pending_up[key])
        if self._pending_shared:
            self._database.put(_SHARED, str(shared_bytes(self._database) + self._pending_shared))
        self._pending_down.clear()
        self._pending_up.clear()
        self._pending_shared = 0


def shared_bytes(database: Database) -> int:
    """Return the bytes sent for no assignment in particular, such as θ_0 to every worker."""
    return int(database.get(_SHARED, "0"))
