"""What a run needs next, and the piece of work that a worker is given."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Self

from lotteryfl.common.names import Digest, FileName, WorkerId
from lotteryfl.common.randomness import derive_seed
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.codeversion import as_told
from lotteryfl.server.store.rundb.rows import AssignmentRow
from lotteryfl.server.store.rundir import RunDirectory

_LOOK_AHEAD = 1000
"""Waiting clients among which those at home with a worker are looked for."""


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

    @classmethod
    def of(cls, run: RunDirectory, row: AssignmentRow, base: Digest, stack: pb.Stack | None) -> Self:
        """Return a leased assignment as its worker is told of it.

        Args:
            run: the run directory.
            row: as it was leased.
            base: digest of the whole model that it starts from; '': its values are in the payload.
            stack: its place in one; None: it is in none.
        """
        assignment = pb.Assignment(
            assignment_id=str(row.standing.id),
            round=row.round,
            client=row.client,
            seed=derive_seed(run.experiment.seed, "training", row.round, row.client),
            plan=as_told(row.plan, run),
            mask_digest=row.mask,
            base_digest=base,
            stack=stack,
        )
        return cls(assignment, row)

    @property
    def source(self) -> FileName:
        """File in the run directory."""
        return self.row.source

    @property
    def is_own_result(self) -> bool:
        """The file is the client's own last result, under its mask already; otherwise a dense model."""
        return self.source.startswith("results/")


def closest(clients: Iterable[int], worker: WorkerId, homes: Mapping[int, WorkerId]) -> int | None:
    """Return, of the first in line, who is at home with the worker, else who is nowhere, else whoever is first."""
    first = islice(clients, _LOOK_AHEAD)
    ranked = ((0 if homes.get(client) == worker else 1 if client not in homes else 2, client) for client in first)
    best: tuple[int, int] | None = None
    for rank, client in ranked:
        if best is None or rank < best[0]:
            best = rank, client
        if rank == 0:
            break
    return None if best is None else best[1]
