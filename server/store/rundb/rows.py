"""What run.db holds of clients, assignments and results, a row each."""

from dataclasses import dataclass
from typing import NamedTuple

from lotteryfl.common.names import Digest, FileName, WorkerId
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.assignments import AssignmentId, Standing, State


@dataclass(frozen=True)
class ClientRow:
    """What a client brings into its next round."""

    client: int
    mask: Digest
    ticket: FileName
    density: float = 1.0


@dataclass(frozen=True)
class AssignmentRow:
    """One client's work in one round."""

    round: int
    client: int
    plan: pb.Plan
    mask: Digest
    source: FileName
    density: float = 1.0
    own: FileName = FileName("")
    """File of the tensors or weights that are the client's own; '': none."""
    state: State = "waiting"
    attempt: int = 0
    worker: WorkerId = WorkerId("")
    reason: str = ""
    forgiven: int = 0
    leased_at: str = ""
    """When its last lease began; '': never."""
    stack: int | None = None
    """First client of those that train as one model; None: it trains by itself."""

    @property
    def standing(self) -> Standing:
        """How it stands."""
        id_ = AssignmentId(self.round, self.client, self.attempt)
        return Standing(id_, self.state, self.worker, self.reason, self.forgiven)


@dataclass(frozen=True)
class Received:
    """A checked result, ready to be counted."""

    assignment_id: str
    examples: int
    mask_digest: Digest
    file: FileName
    density: float
    metrics: pb.ClientMetrics
    scale: float = 1.0
    """Share of its update that is aggregated."""


@dataclass(frozen=True)
class ResultRow:
    """A counted result, ready to be aggregated."""

    round: int
    client: int
    examples: int
    mask: Digest
    file: FileName
    scale: float = 1.0
    """Share of its update that counts."""
    validation_score: float | None = None
    """Score on validation data of the model that its plan judged; None where it judged none."""


class Spent(NamedTuple):
    """Privacy: who sees what it is promised against tells two neighbouring runs apart by no more than this."""

    epsilon: float
    delta: float
