"""How single clients stand by their last results, as a query of run.db that looks at a page of them alone."""

from collections.abc import Callable

from lotteryfl.common.security.identity import name_of
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundb.measures import score_column

MOST_CLIENTS = 200
"""Clients of a page."""


def client_page(
    database: Database, first: int, most: int, left_out: Callable[[int], int], *, withheld: bool
) -> pb.Clients:
    """Return how clients stand, in the order of their numbers.

    Args:
        database: of the run.
        first: the first client of the page.
        most: how many at most; 0: as many as there are in one.
        left_out: how many committed rounds a client sat out.
        withheld: without what privacy leaves to the coordinator alone.
    """
    most = min(most or MOST_CLIENTS, MOST_CLIENTS)
    downloaded, personalised = (score_column(database.score, metrics) for metrics in ("d", "p"))
    rows = database.select(
        f"""
        SELECT c.client, coalesce(r.round, 0), {downloaded}, {personalised}, r.density, coalesce(r.mask, ''),
            coalesce(a.worker, ''), coalesce(r.seconds, 0)
        FROM clients c LEFT JOIN results r ON r.client = c.client AND r.round = (
            SELECT round FROM results WHERE client = c.client AND round > 0 ORDER BY round DESC LIMIT 1
        )
        LEFT JOIN assignments a ON (a.round, a.client) = (r.round, r.client)
        LEFT JOIN metrics d ON (d.round, d.client, d.phase) = (r.round, r.client, 'downloaded')
        LEFT JOIN metrics p ON (p.round, p.client, p.phase) = (r.round, r.client, 'personalised')
        WHERE c.client >= :first ORDER BY c.client LIMIT :most
        """,  # noqa: S608 - of the program's own words
        first=first,
        most=most + 1,
        score=database.score.name,
    )
    found = [
        pb.ClientStatus(
            client=client,
            round=round_,
            downloaded=None if withheld else before,
            personalised=None if withheld else after,
            density=None if withheld else density,
            mask="" if withheld else mask,
            worker=name_of(worker),
            seconds=seconds,
            left_out=left_out(client),
        )
        for client, round_, before, after, density, mask, worker, seconds in rows
    ]
    following = found[most].client if len(found) > most else 0
    return pb.Clients(clients=found[:most], next=following, withheld=withheld)
