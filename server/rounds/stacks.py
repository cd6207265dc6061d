"""Which clients of a round train as one model: those with the same plan, in client order; once for all."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.rundb.rows import AssignmentRow


class Place(NamedTuple):
    """A client's place in its stack."""

    first: int
    """Of the stack's clients, after which it is called."""
    rows: int
    row: int


def stacked(assignments: Iterable[AssignmentRow], most: int) -> Iterator[AssignmentRow]:
    """Yield a round's assignments with their stacks.

    Args:
        assignments: in any order.
        most: rows of a stack; 0: there are none.
    """
    filling: dict[bytes, tuple[int, int]] = {}  # by plan, the stack that has room, and how many are in it
    for assignment in sorted(assignments, key=lambda assignment: assignment.client) if most else assignments:
        if not most or assignment.plan.measure_saliency:
            yield assignment
            continue
        plan = pb.Plan()
        plan.CopyFrom(assignment.plan)
        plan.ClearField("measure_shared")  # it is done before all else
        key = plan.SerializeToString(deterministic=True)
        first, count = filling.get(key, (assignment.client, 0))
        if count == most:
            first, count = assignment.client, 0
        filling[key] = first, count + 1
        yield replace(assignment, stack=first)


def places(assignments: Iterable[AssignmentRow]) -> Mapping[int, Place]:
    """Return by client the places of those that are stacked.

    Args:
        assignments: all of a round, in client order.
    """
    members: dict[int, list[int]] = {}
    for assignment in assignments:
        if assignment.stack is not None:
            members.setdefault(assignment.stack, []).append(assignment.client)
    return {
        client: Place(stack, len(clients), row)
        for stack, clients in members.items()
        for row, client in enumerate(clients)
    }


class Stacks:
    """Who is in which stack; who is in none is one by itself."""

    def __init__(self, stacks: Mapping[int, int]) -> None:
        """Take, by client, the first client of its stack."""
        self._stacks = stacks
        self._members: dict[int, list[int]] = {}
        for client, stack in stacks.items():
            self._members.setdefault(stack, []).append(client)
        self.rows = max(map(len, self._members.values()), default=1)
        """Clients of the largest."""

    def count(self, clients: Iterable[int]) -> int:
        """Return in how many stacks some clients are."""
        return len({self._stacks.get(client, client) for client in clients})

    def apart(self, clients: Iterable[int], line: Iterable[int]) -> Iterator[int]:
        """Yield who of a line is in no stack that some clients are in."""
        theirs = {self._stacks.get(client, client) for client in clients}
        return (client for client in line if self._stacks.get(client, client) not in theirs)

    def others(self, client: int, among: Collection[int]) -> list[int]:
        """Return who else of a client's stack is among some clients, in client order."""
        members = self._members.get(self._stacks.get(client, client), ())
        return [each for each in members if each != client and each in among]
