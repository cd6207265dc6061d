"""What a worker gets that serves several clients of a round: the whole model once, or the kept values of each client.

The bits that it works with are the same. Masks travel apart from both, and only to who does not hold them.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Self

from lotteryfl.common.names import Digest
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.server.rounds.leases import LeaseTable
from lotteryfl.server.rounds.workers import Worker
from lotteryfl.server.store.rundb.rows import AssignmentRow
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import model_file


@dataclass(frozen=True)
class TransferSizes:
    """Bytes on the wire, but for names and frames."""

    whole: int
    """The whole model, in its own dtypes."""
    weights: float
    """Its prunable tensors, as values in the wire dtype, and what travels under their masks."""
    rest: int
    """Everything else, which every client gets whole."""

    @classmethod
    def of(cls, wire: WireFormat) -> Self:
        """Return the sizes of a model."""
        weights = [spec for spec in wire.rows if spec.prunable or spec.masked]
        return cls(
            whole=wire.rows.nbytes,
            weights=sum(spec.numel * wire.bits(spec) for spec in weights) / 8,
            rest=wire.rows.nbytes - sum(spec.nbytes for spec in weights),
        )

    def values(self, density: float) -> float:
        """Return the bytes of one client's kept values."""
        return self.rest + density * self.weights

    def broadcast_pays(self, densities: Iterable[float]) -> bool:
        """Say whether the whole model takes fewer bytes than the kept values of clients of these densities."""
        total = 0.0
        for density in densities:
            total += self.values(density)
            if total > self.whole:
                return True
        return False


class Broadcasts:
    """Chooses what workers start from."""

    def __init__(self, run: RunDirectory, *, allowed: bool) -> None:
        self._run = run
        self._allowed = allowed and run.experiment.round.broadcasts
        self._sizes = TransferSizes.of(run.wire)

    def base(self, worker: Worker, row: AssignmentRow, next_in_line: Iterable[AssignmentRow]) -> Digest:
        """Return the digest of the whole model if the worker is to start from that; '': it gets its client's values.

        Who is to measure the shared model gets it in any case.

        Args:
            worker: who gets the assignment.
            row: the assignment.
            next_in_line: what the worker is likely to do next in this round.
        """
        if row.plan.measure_shared:
            worker.model = self._run.model_digest
            return worker.model
        if not self._allowed or row.own or row.source != model_file(self._run.model_round):
            return Digest("")
        digest = self._run.model_digest
        if digest not in (worker.model, self._run.initial_digest):  # it holds neither
            if not self._sizes.broadcast_pays(each.density for each in (row, *next_in_line)):
                return Digest("")
            worker.model = digest
        return digest


def next_in_line(
    table: LeaseTable, rows: Mapping[int, AssignmentRow], worker: Worker, row: AssignmentRow, alive: int
) -> Iterator[AssignmentRow]:
    """Yield what a worker will do after an assignment, if every worker does as much.

    Args:
        table: of the open round.
        rows: its assignments, by client.
        worker: who has it.
        row: the assignment.
        alive: how many workers there are.
    """
    share = math.ceil(table.unsettled / alive)
    line = (rows[client] for client in table.waiting(worker.clients) if client != row.client)
    yield from islice(line, share - 1)
