"""What a run needs next, and the piece of work that a worker is given."""

from dataclasses import dataclass
from enum import Enum

from lotteryfl.common.names import FileName
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.rundb.rows import AssignmentRow


class Step(Enum):
    """What a run needs next."""

    WAIT = "wait for results"
    OFFER = "offer assignments that came back to the workers that wait"
    COMMIT = "aggregate and commit the round"
    ENDED = "nothing: the run has finished or failed"


@dataclass(frozen=True)
class Work:
    """A leased assignment and where its tensors are."""

    assignment: pb.Assignment
    row: AssignmentRow
    """The assignment's row, as it was leased."""

    @property
    def source(self) -> FileName:
        """File in the run directory."""
        return self.row.source

    @property
    def is_own_result(self) -> bool:
        """The file is the client's own last result, under its mask already; otherwise a dense model."""
        return self.source.startswith("results/")
