"""What a worker has in hand: the assignments that it was given, in their order, until each is returned or lost."""

import contextlib
import threading
from collections.abc import Collection

from torch import Tensor

from lotteryfl.client.work.handover import Ready
from lotteryfl.protos import lotteryfl_pb2 as pb

_LOOK_SECONDS = 1.0
"""A signal that comes just as the main thread's wait begins is looked at when that ends: many short ones."""


class LeaseLostError(BaseException):
    """The assignment under work is not this worker's any more: no error, so that no code of a user's holds it up."""


class Lease:
    """One assignment in hand."""

    def __init__(self, assignment: pb.Assignment, ready: Ready) -> None:
        """Take it in hand.

        Args:
            assignment: the header.
            ready: what has arrived with it.
        """
        self.id = assignment.assignment_id
        self.assignment = assignment
        self.group = group_of(assignment)
        self.context = ready.context
        """What whoever works on it, or returns it, is about."""
        self.has_begun = False
        self._ready: Ready | None = ready
        self._lost = threading.Event()
        self._training: tuple[int, int, Tensor] | None = None

    def take_ready(self) -> Ready:
        """Return what has arrived with it, once: it is a model, and held by nobody longer than is needed."""
        ready, self._ready = self._ready, None
        if ready is None:
            raise ValueError(f"{self.id}: is under work already")
        return ready

    @property
    def is_lost(self) -> bool:
        """Whether it is another's by now, or its round is over."""
        return self._lost.is_set()

    def lose(self) -> None:
        """Have its work end at the next step."""
        self._lost.set()

    def note(self, epoch: int, step: int, loss: Tensor) -> None:
        """Note progress."""
        self._training = (epoch, step, loss)

    def progress(self) -> pb.AssignmentProgress:
        """Return how far its work is, for a heartbeat."""
        if self._training is None:
            return pb.AssignmentProgress(assignment_id=self.id)
        epoch, step, loss = self._training
        progress = pb.AssignmentProgress(assignment_id=self.id, epoch=epoch, step=step)
        # Read here and not at every step: on an accelerator it waits for the step to be done.
        with contextlib.suppress(RuntimeError):  # a step that failed there: the work itself says so
            progress.loss = float(loss)
        return progress


def group_of(assignment: pb.Assignment) -> object:
    """Return what is worked on at once: a stack, or an assignment alone."""
    return (assignment.round, assignment.stack.first) if assignment.HasField("stack") else assignment.assignment_id


class Leases:
    """The leases of one worker: one thread fetches, one works on them in their order, one returns."""

    def __init__(self, most: int) -> None:
        """Set how many there may be at once; those of one stack are one."""
        self.most = most
        self._gathering: object = None  # the group of which more come next
        self._held: list[Lease] = []
        self._changed = threading.Condition()
        self._is_over = False
        self._last_word: BaseException | None = None
        self._failure: BaseException | None = None

    # -- who fetches

    def wait_for_room(self) -> bool:
        """Wait until there may be one more; False: nothing is wanted any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._has_room)
            return not self._is_over

    @property
    def _has_room(self) -> bool:
        return self._gathering is not None or len({lease.group for lease in self._held}) < self.most

    def add(self, lease: Lease, *, more: bool = False) -> None:
        """Take one in hand, unless nothing is wanted any more; an older attempt of its client in its stack is lost.

        Args:
            lease: which.
            more: of its stack come next; none of it is begun before.
        """
        with self._changed:
            if not self._is_over:
                client = lease.assignment.client
                older = [each for each in self.not_begun(lease.group) if each.assignment.client == client]
                self._held = [*(each for each in self._held if each not in older), lease]
                self._gathering = lease.group if more else None
            self._changed.notify_all()

    def gathered(self) -> None:
        """Say that no more come of a stack: what is there of it is worked on."""
        with self._changed:
            self._gathering = None
            self._changed.notify_all()

    def no_more(self, error: BaseException | None = None) -> None:
        """Say that no more come; where that is for an error, what has not been begun is not in hand any more."""
        with self._changed:
            if not self._is_over:
                self._is_over, self._last_word = True, error
            self._gathering = None
            if error is not None:
                self._held = [lease for lease in self._held if lease.has_begun]
            self._changed.notify_all()

    @property
    def gathering(self) -> object:
        """The stack of which more come next; None: of none."""
        return self._gathering

    # -- who works

    def begin(self) -> list[Lease]:
        """Wait for the next one to be worked on, or those of the next stack; none: the run has finished.

        Raises:
            BaseException: why no more come, when all that was begun is returned; or why nothing can be returned, where
                that was not for the same.
        """
        with self._changed:
            while not self._changed.wait_for(self._has_something_to_begin, _LOOK_SECONDS):
                pass
            if self._failure is not None:
                raise self._last_word or self._failure
            leases = self._next()
            for lease in leases:
                lease.has_begun = True
            if not leases and self._last_word is not None:
                raise self._last_word
            return leases

    def _has_something_to_begin(self) -> bool:
        return bool(self._failure or self._next() or (self._is_over and not self._held))

    def _next(self) -> list[Lease]:
        waiting = [lease for lease in self._held if not lease.has_begun]
        if not waiting or waiting[0].group == self._gathering:
            return []
        return [lease for lease in waiting if lease.group == waiting[0].group]

    @property
    def is_at_work(self) -> bool:
        """Whether any of them has been begun."""
        with self._changed:
            return any(lease.has_begun for lease in self._held)

    # -- who returns

    def end(self, lease: Lease) -> None:
        """Have one not in hand any more: it is returned, handed back, or lost."""
        with self._changed:
            if lease in self._held:
                self._held.remove(lease)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Say that nothing can be returned any more: all work is in vain."""
        with self._changed:
            self._is_over, self._failure = True, error
            for lease in self._held:
                lease.lose()
            self._changed.notify_all()

    # -- who asks

    def all(self) -> list[Lease]:
        """Return them, in the order in which they were given."""
        with self._changed:
            return list(self._held)

    def not_begun(self, group: object) -> list[Lease]:
        """Return those of a group that are not begun, and will be together."""
        return [lease for lease in self.all() if lease.group == group and not lease.has_begun]

    def has_beside(self, group: object) -> bool:
        """Tell whether anything is in hand that is not of a group."""
        return any(lease.group != group for lease in self.all())

    def lose(self, ids: Collection[str]) -> None:
        """Lose some to others: what is under work ends at its next step, what was not begun is gone at once."""
        with self._changed:
            for lease in [each for each in self._held if each.id in ids]:
                lease.lose()
                if not lease.has_begun:
                    self._held.remove(lease)
            self._changed.notify_all()
