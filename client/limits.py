"""What a worker takes on: its coordinator's word is checked before any memory or time is spent on it."""

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from operator import attrgetter

import torch
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from lotteryfl.client.local.stretches import STEPS_OF_EPOCH
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment, from_json
from lotteryfl.common.experiment.settings import MAX_LEASE_SECONDS, MIN_LEASE_SECONDS
from lotteryfl.common.memory.bounds import Bound, device_bound, host_bound
from lotteryfl.common.memory.need import worker_need
from lotteryfl.common.owncode.sourceversion import SourceVersion
from lotteryfl.common.text import quoted
from lotteryfl.common.wire.payload import is_digest
from lotteryfl.common.wire.table import TensorTable, is_meant
from lotteryfl.protos import lotteryfl_pb2 as pb

DEFAULT_MAX_EPOCHS = 1000

_CPU = torch.device("cpu")

_MOST_ID = 300
"""Characters of what the coordinator calls a worker or a run."""

_SHARES = (
    "prune.rate",
    "prune.target_density",
    "prune.accuracy_threshold",
    "prune.min_mask_change",
    "readjust.rate",
    "select.rate",
    "select.limit",
    "free_mask.density",
)
"""Fields of a plan that are between 0 and 1; what it leaves out is 0."""

_ASSIGNMENT_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


class RefusedError(LotteryFLError):
    """The coordinator asks for what this worker does not take on; the message names it, and the bound."""


@dataclass(frozen=True)
class Limits:
    """The most that one assignment may ask for.

    Training steps of epochs need no bound of their own: they are at most epochs times the examples that the worker
    holds.
    """

    max_epochs: int = DEFAULT_MAX_EPOCHS
    max_memory: Bound = field(default_factory=lambda: host_bound().halved())
    """Of the machine's memory, for the work on a model."""

    def check_registration(
        self, reply: pb.RegisterReply, device: torch.device = _CPU
    ) -> tuple[Experiment, TensorTable]:
        """Read what a registration was answered with.

        Args:
            reply: the answer.
            device: of the worker.

        Raises:
            RefusedError: a value makes no sense, or the work takes more memory than is taken on or the device has.
            ExperimentError: the experiment is not one that this version understands.
            PayloadError: the tensor table is none.
        """
        if not MIN_LEASE_SECONDS <= reply.lease_seconds <= MAX_LEASE_SECONDS:  # NaN is refused too
            raise _refused("lease_seconds", reply.lease_seconds, f"{MIN_LEASE_SECONDS:g} to {MAX_LEASE_SECONDS:g}")
        if not is_digest(reply.initial_digest):
            raise _refused("initial_digest", reply.initial_digest, "64 hexadecimal digits")
        for name in ("worker_id", "run_id"):
            if len(value := getattr(reply, name)) > _MOST_ID:
                raise _refused(name, value, f"at most {_MOST_ID} characters")
        coordinators_task(reply)
        table = TensorTable.from_json(reply.table_json)
        experiment, free = from_json(reply.experiment_json), device_bound(device)
        need = worker_need(table, experiment, own_memory=free is not None)
        if excess := need.excess(self.max_memory, free, "this worker takes on"):
            raise RefusedError(f"the coordinator's model takes {excess}")
        return experiment, table

    def excess_of_two(self, table: TensorTable, experiment: Experiment, device: torch.device = _CPU) -> str:
        """Say in one line what is more than is taken on where one assignment is beside another; '': nothing is.

        Args:
            table: of the model.
            experiment: of the run.
            device: of the worker.
        """
        free = device_bound(device)
        need = worker_need(table, experiment, own_memory=free is not None).with_next()
        return need.excess(self.max_memory, free, "this worker takes on")

    def check_assignment(self, assignment: pb.Assignment, experiment: Experiment, held: Collection[int] | None) -> None:
        """Check what is to be done, when nothing of it has been received but this.

        Args:
            assignment: the header.
            experiment: of the run.
            held: the clients whose data the worker has; None: every client's.

        Raises:
            RefusedError: it is not this worker's to do, asks for too much, or for what this version does not know.
        """
        _check_fields(assignment, "assignment")
        if not _ASSIGNMENT_ID.fullmatch(assignment.assignment_id):
            raise _refused("assignment_id", assignment.assignment_id, "up to 64 letters, digits and hyphens")
        client = assignment.client
        if client >= experiment.clients or (held is not None and client not in held):
            raise _refused("client", client, "one of this worker's")
        for name in ("mask_digest", "base_digest"):
            if (digest := getattr(assignment, name)) and not is_digest(digest):
                raise _refused(name, digest, "64 hexadecimal digits, or none")
        if assignment.plan.measure_shared and not assignment.base_digest:
            raise _refused("base_digest", "", "that of the model that its plan measures")
        if assignment.HasField("stack"):
            _check_stack(assignment.stack, experiment.engine.stacked)
        self._check_plan(assignment.plan)

    def _check_plan(self, plan: pb.Plan) -> None:
        if not plan.measure_saliency:
            self._check_length(plan.train)
        if not 0 <= plan.train.proximal < math.inf:  # NaN is refused too
            raise _refused("plan.train.proximal", plan.train.proximal, "a finite number, not below 0")
        if not 0 <= plan.train.lr < math.inf:
            raise _refused("plan.train.lr", plan.train.lr, "a finite number above 0, or none")
        if plan.rewind not in pb.Plan.Rewind.values():
            raise _refused("plan.rewind", plan.rewind, f"one of {', '.join(pb.Plan.Rewind.keys())}")
        if plan.prune.scope not in pb.Plan.Scope.values():
            raise _refused("plan.prune.scope", plan.prune.scope, f"one of {', '.join(pb.Plan.Scope.keys())}")
        for path in _SHARES:
            value = attrgetter(path)(plan)
            if not 0 <= value <= 1:
                raise _refused(f"plan.{path}", value, "a share")
        if not math.isfinite(plan.prune.score_threshold):
            raise _refused("plan.prune.score_threshold", plan.prune.score_threshold, "a finite number")
        if plan.HasField("prune") and plan.prune.target_density == 0:
            raise _refused("plan.prune.target_density", 0.0, "more than 0: a model")

    def _check_length(self, train: pb.Plan.Train) -> None:
        if not train.steps and not 1 <= train.epochs <= self.max_epochs:
            raise _refused("plan.train.epochs", train.epochs, f"1 to {self.max_epochs} (--max-epochs)")
        if train.steps > (most := STEPS_OF_EPOCH * self.max_epochs):
            raise _refused(
                "plan.train.steps", train.steps, f"at most {most}, {STEPS_OF_EPOCH} for each of --max-epochs"
            )


def check_place(assignment: pb.Assignment, others: Iterable[pb.Assignment]) -> None:
    """Check the place of an assignment in its stack beside those of others, which are worked on with it.

    Raises:
        RefusedError: another client has it, or theirs is a stack of another size.
    """
    stack = assignment.stack
    for other in others:
        if stack.rows != other.stack.rows:
            raise _refused("stack", f"{stack.rows} rows", f"{other.stack.rows}, as for {other.assignment_id}")
        if stack.row == other.stack.row and assignment.client != other.client:
            raise _refused("stack", f"row {stack.row}", f"another than that of {other.assignment_id}")


def check_sends(plan: pb.Plan, table: TensorTable) -> None:
    """Check that what is to come back is there.

    Raises:
        RefusedError: a name or pattern is that of no tensor that only goes up.
    """
    for pattern in plan.sends:
        if not any(spec.role == "up" and is_meant(spec.name, pattern) for spec in table):
            raise _refused("plan.sends", pattern, "a name among the tensors of its table that only go up")


def coordinators_task(reply: pb.RegisterReply) -> SourceVersion:
    """Return the version of the coordinator's task, as far as a registration was answered with it.

    Raises:
        RefusedError: it is none.
    """
    try:
        return SourceVersion.from_json(reply.task_version_json)
    except ValueError:
        raise _refused("task_version_json", reply.task_version_json, "digests of files, by their names") from None


def _check_stack(stack: pb.Stack, most: int) -> None:
    if not stack.row < stack.rows <= most:
        raise _refused("stack", f"row {stack.row} of {stack.rows}", f"one of at most {most}, as engine.stacked says")
    if stack.more >= stack.rows:
        raise _refused("stack.more", stack.more, f"less than its {stack.rows} rows")


def _check_fields(message: Message, name: str) -> None:
    """Refuse what protobuf would pass over in silence: a field is sent only where it is to be obeyed."""
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise RefusedError(
            f"the coordinator's {name} has a field {unknown[0].field_number}, which this version does not know: "
            "a newer lotteryfl sent it"
        )
    for descriptor, value in message.ListFields():
        if isinstance(value, Message):
            _check_fields(value, descriptor.name)


def _refused(name: str, value: object, expected: str) -> RefusedError:
    return RefusedError(f"the coordinator's {name} = {quoted(value)}: expected {expected}")
