"""A run's rounds as traces: a span of each round, and below it one of every lease, from when it is given to its end.

Their ids are made of the run's, so that a coordinator that is started again goes on with the same spans.
"""

from collections.abc import Iterable

from lotteryfl.common.security.identity import name_of
from lotteryfl.common.telemetry import tracing
from lotteryfl.common.telemetry.about import named_in
from lotteryfl.common.telemetry.tracing import NO_SPAN, Span
from lotteryfl.server.store.assignments import Lease, Standing


class Traces:
    """The spans of the open round and of its leases."""

    def __init__(self, run_id: str) -> None:
        """Set whose they are."""
        self._run_id = run_id
        self._number = 0
        self._leases: dict[str, Span] = {}
        self.round = NO_SPAN
        """The open round's."""

    def take_up(self, number: int, leases: Iterable[Lease]) -> None:
        """Begin with a round, unless it is the one that is under way, and with what is leased of it."""
        if not tracing.is_on():
            return
        if number != self._number:
            self.round_ended()
            self._number = number
            self.round = tracing.begin("round", ids=f"{self._run_id}/{number}", run=self._run_id, round=number)
        self.given(leases)

    def given(self, leases: Iterable[Lease | Standing]) -> None:
        """Begin with assignments that are leased; what is told twice is under way already."""
        if not tracing.is_on():
            return
        for lease in leases:
            id_ = str(lease.id)
            if id_ not in self._leases:
                self._leases[id_] = tracing.begin(
                    "lease",
                    self.round,
                    f"{self._run_id}/{id_}",
                    run=self._run_id,
                    worker=name_of(lease.worker),
                    **named_in(id_),
                )

    def ended(self, standings: Iterable[Standing], trouble: str = "") -> None:
        """End those of assignments that are not leased any more.

        Args:
            standings: whose result counts; or, where that is not so, what they had before is over.
            trouble: what has happened then.
        """
        for standing in standings:
            self._leases.pop(str(standing.id), NO_SPAN).end(trouble)

    def round_ended(self, trouble: str = "") -> None:
        """End the round's, and what is left below it."""
        while self._leases:
            self._leases.popitem()[1].end("its round is over")
        self.round.end(trouble)
        self.round, self._number = NO_SPAN, 0

    def of(self, assignment_id: str) -> Span:
        """Return a lease's; NO_SPAN: there is none."""
        return self._leases.get(assignment_id, NO_SPAN)
