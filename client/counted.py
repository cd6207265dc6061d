"""What a worker has done since its process began, for who only looks."""

from collections import Counter
from dataclasses import dataclass, field

from lotteryfl.common.stages import Stages


@dataclass
class Counted:
    """Counts; each is one thread's to raise."""

    steps: int = 0
    """Of training; one of a stack's is one."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Assignments by what became of them: the verdict on the result, handed_back, or lost."""
    stages: Stages = field(default_factory=Stages)
    """download, decode, evaluate, train, encode, upload."""
