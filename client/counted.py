"""What a worker has done since its process began, for who only looks."""

from collections import Counter
from collections.abc import Mapping
from threading import Lock

from lotteryfl.common.telemetry.stages import Stages


class Counted:
    """Counts."""

    def __init__(self) -> None:
        self.steps = 0
        """Of training, raised by the thread that trains; one of a stack's is one."""
        self.stages = Stages()
        """download, decode, evaluate, train, encode, upload."""
        self._outcomes: Counter[str] = Counter()
        self._lock = Lock()

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Assignments by what became of them: the verdict on the result, handed_back, or lost."""
        return self._outcomes

    def ended(self, outcome: str) -> None:
        """Count what has become of an assignment; any thread may know."""
        with self._lock:
            self._outcomes[outcome] += 1
