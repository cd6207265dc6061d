"""The workers that have registered, and what each is doing. Memory only: after a restart they register again."""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from lotteryfl.common.names import Digest, WorkerId
from lotteryfl.common.security.identity import name_of, owner
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.machine import UNKNOWN, Machine
from lotteryfl.server.rounds.recent import Recent

MOST_WORKERS = 10_000
"""Workers that are known at once. Whoever is forgotten for others has to register again."""


class UnknownWorkerError(Exception):
    """The worker must register (again): the coordinator was restarted, or a new incarnation took its name."""


class ReplacedError(Exception):
    """A worker of the same name was started later: if both came back, they would take turns for ever."""


class AsideError(Exception):
    """The worker gets no more work in this run: too many of its results were refused. The message says it."""


@dataclass
class Worker:
    """A registered worker process."""

    worker_id: WorkerId
    clients: frozenset[int] | None
    """The clients whose data it holds; None: every client's."""
    machine: Machine = UNKNOWN
    """What it computes on."""
    model: Digest = Digest("")
    """Digest of the whole model that it was given last."""
    asks: bool = False
    """It has asked for work: what others have failed at may wait for it."""
    progress: dict[str, pb.AssignmentProgress] = field(default_factory=dict)
    load: pb.WorkerLoad | None = None
    """What it takes of its machine, as it said last; None: it did not."""
    withdrawn: deque[str] = field(default_factory=deque)
    """Ids of the last that it had ahead and others were given: it has not been told yet."""


class WorkerRegistry:
    """Workers by id. The clock is passed in."""

    def __init__(self, most: int = MOST_WORKERS, holds: int = 2) -> None:
        """Set what there may be.

        Args:
            most: workers that are known at once; who was not heard of for longest is forgotten first.
            holds: assignments that one may hold at once.
        """
        self._most = most
        self._holds = holds
        self._workers: dict[WorkerId, Worker] = {}
        self.heard: OrderedDict[WorkerId, float] = OrderedDict()
        """When each worker was heard of last, the longest silent first."""
        self._replaced = Recent(most)

    def register(
        self,
        name: str,
        incarnation: str,
        clients: Collection[int] | None,
        now: float,
        machine: Machine = UNKNOWN,
    ) -> WorkerId:
        """Add a worker in the place of older incarnations of its name; return its id.

        Raises:
            ReplacedError: it is such an older incarnation itself.
        """
        worker_id = WorkerId(f"{name}:{incarnation}")
        if worker_id in self._replaced:
            raise ReplacedError(worker_id)
        for known in [known for known in self._workers if name_of(known) == name]:
            self.forget(known)
            if known != worker_id:
                self._replaced.add(known)
        if len(self._workers) >= self._most:
            self.forget(next(iter(self.heard)))
        held, withdrawn = None if clients is None else frozenset(clients), deque[str](maxlen=self._holds)
        self._workers[worker_id] = Worker(worker_id, held, machine, withdrawn=withdrawn)
        self._hear(worker_id, now)
        return worker_id

    def seen(self, worker_id: WorkerId, now: float) -> Worker:
        """Return a worker and note that it is alive.

        Raises:
            UnknownWorkerError: it is not registered.
        """
        worker = self._workers.get(worker_id)
        if worker is None:
            raise UnknownWorkerError(worker_id)
        self._hear(worker_id, now)
        return worker

    def _hear(self, worker_id: WorkerId, now: float) -> None:
        self.heard[worker_id] = now
        self.heard.move_to_end(worker_id)

    def count_alive(self, since: float) -> int:
        """Return how many were heard of since then; looked at are those that were not."""
        silent = sum(1 for _ in takewhile(lambda moment: moment < since, self.heard.values()))
        return len(self.heard) - silent

    def known(self, worker_id: WorkerId) -> Worker | None:
        """Return a worker, if it is registered; that it is asked for says nothing about its life."""
        return self._workers.get(worker_id)

    def all(self) -> Iterable[Worker]:
        """Return those that are registered, heard of or not."""
        return self._workers.values()

    def asking(self, since: float) -> dict[WorkerId, frozenset[int] | None]:
        """Return by worker that takes work, and was heard of since then, the clients whose data it holds."""
        return {id_: each.clients for id_, each in self._workers.items() if each.asks and self.heard[id_] >= since}

    def held(self, since: float, clients: int) -> Sequence[int]:
        """Return which of the first clients are held by workers that were heard of since then, ascending."""
        there = [each.clients for id_, each in self._workers.items() if self.heard[id_] >= since]
        if None in there:
            return range(clients)
        return sorted({client for held in there if held for client in held if client < clients})

    def of(self, name: str) -> list[WorkerId]:
        """Return the workers that somebody answers for, see `owner`."""
        return [worker_id for worker_id in self._workers if owner(worker_id) == name]

    def forget(self, worker_id: WorkerId) -> bool:
        """Take out a worker that left: its silence means nothing. Tell whether it was known."""
        self.heard.pop(worker_id, None)
        return self._workers.pop(worker_id, None) is not None

    def report(self, worker: Worker, progress: Iterable[pb.AssignmentProgress]) -> None:
        """Replace what the worker says that it is doing."""
        worker.progress = {item.assignment_id: item for item in progress}

    def progress(self, worker_id: WorkerId, assignment_id: str) -> pb.AssignmentProgress | None:
        """Return how far a worker is with an assignment, if it said so."""
        worker = self._workers.get(worker_id)
        return worker.progress.get(assignment_id) if worker else None
