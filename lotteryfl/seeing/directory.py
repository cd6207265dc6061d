"""A run as its directory has it, whoever drives it, if anybody does. Imports neither torch nor gRPC."""

import time
from collections.abc import Iterator
from pathlib import Path

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.seeing.look import SECONDS, SHARE, Look, first_of_last
from lotteryfl.server.store.record import RunRecord, looked_at
from lotteryfl.server.store.rundb.clients import client_page
from lotteryfl.server.store.rundb.events import newest_events
from lotteryfl.server.store.runlock import is_being_run
from lotteryfl.server.store.status import status_of
from lotteryfl.server.store.summaries import left_out, round_summaries


class DirectorySource:
    """Opens the directory for every look: a coordinator may come and go meanwhile."""

    def __init__(self, path: Path) -> None:
        """Set which."""
        self._path = path
        self._round = self._event = 0

    def status(self) -> pb.RunStatus:
        """Return where the run stands.

        Raises:
            LotteryFLError: there is no run, or it is damaged.
        """
        with looked_at(self._path) as run:
            return status_of(run)

    def is_driven(self) -> bool:
        """Tell whether a process holds the run's lock."""
        return is_being_run(self._path)

    def fleet(self) -> None:
        """Return nothing: what workers are at, only their coordinator's memory knows."""

    def clients(self) -> pb.Clients:
        """Return how all clients stand, to who has the directory without anything withheld.

        Raises:
            LotteryFLError: there is no run, or it is damaged.
        """
        with looked_at(self._path) as run:
            return _clients(run)

    def looks(self) -> Iterator[Look]:
        """Look at the run again and again, until it has ended.

        Raises:
            LotteryFLError: there is no run, or it is damaged.
        """
        while True:
            begin, is_driven = time.monotonic(), self.is_driven()  # before: who ends the run says so, and lets go
            with looked_at(self._path) as run:
                look = self._look(run, is_driven=is_driven)
            taken = time.monotonic() - begin
            yield look
            if look.is_last:
                return
            time.sleep(max(SECONDS, SHARE * taken))

    def _look(self, run: RunRecord, *, is_driven: bool) -> Look:
        status, database = status_of(run), run.database
        rounds = round_summaries(database, first_of_last(database.last_round(), self._round))
        events = [pb.Event(**event._asdict()) for event in newest_events(database, self._event)]
        self._round = rounds[-1].round if rounds else self._round
        self._event = events[-1].id if events else self._event
        return Look(status, None, rounds, events, is_driven=is_driven)


def _clients(run: RunRecord) -> pb.Clients:
    missed = {missing.client: missing.rounds for missing in left_out(run.database)}
    whole, following = pb.Clients(), 0
    while True:
        page = client_page(run.database, following, 0, lambda client: missed.get(client, 0), withheld=False)
        whole.clients.extend(page.clients)
        following = page.next
        if not following:
            return whole
