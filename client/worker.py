"""The worker's loop: register, fetch an assignment, do it, return the result, until the run is over."""

import contextlib
import gc
import logging
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from lotteryfl.client.blobs import Content
from lotteryfl.client.connection import Connection
from lotteryfl.client.counted import Counted
from lotteryfl.client.fetching import DrainedError, Fetching
from lotteryfl.client.heartbeat import Heartbeat
from lotteryfl.client.leases import Lease, LeaseLostError, Leases, group_of
from lotteryfl.client.limits import check_place, check_sends, coordinators_task
from lotteryfl.client.load import Load
from lotteryfl.client.local.registered import check_local, local_of
from lotteryfl.client.overseer import DoneWithError, Overseer
from lotteryfl.client.returning import Returning
from lotteryfl.client.settings import WorkerSettings
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.client.work.clienterror import told
from lotteryfl.client.work.followed import followed
from lotteryfl.client.work.handover import Outcome
from lotteryfl.common.errors import ClientError, LotteryFLError, PayloadError, ShortOfMemoryError, TaskVersionError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.memory.bounds import memory_of
from lotteryfl.common.memory.shortage import is_out_of_memory
from lotteryfl.common.names import Digest, WorkerId
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.security.channel import PROTOCOL_VERSION
from lotteryfl.common.tasks import Task, load_task
from lotteryfl.common.tasks.custom import version_of_task
from lotteryfl.common.telemetry.about import about, bind
from lotteryfl.common.text import brief
from lotteryfl.common.wire.samemodel import check_same_model
from lotteryfl.protos import lotteryfl_pb2 as pb

_log = logging.getLogger("lotteryfl.worker")


class RunChangedError(LotteryFLError):
    """The coordinator came back with another experiment or task than this worker works by: a run was made longer."""


class Worker:
    """One worker process, from registration to goodbye."""

    def __init__(
        self,
        connection: Connection,
        settings: WorkerSettings,
        overseer: Overseer | None = None,
        counted: Counted | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            connection: to the coordinator.
            settings: of its operator.
            overseer: who has started it as one of several; None: nobody.
            counted: what is done; None: nobody looks at it.
        """
        self._connection = connection
        self._settings = settings
        self._overseer = overseer or Overseer()
        self._counted = counted or Counted()
        self._incarnation = uuid.uuid4().hex
        self._run_id = ""
        self._leases = Leases(1)
        self._load = Load(settings.device, self._counted)
        self._registering = Lock()
        self._has_changed = False

    def run(self) -> None:
        """Work until the coordinator says that the run has finished, or sends its workers away, or the overseer does.

        Raises:
            LotteryFLError: the run failed, the coordinator cannot be reached, or this worker cannot take part.
        """
        with contextlib.suppress(DoneWithError, DrainedError), about(worker=self._settings.name):
            while not self._took_part():
                _log.info("%s: the run's experiment is another now, this worker begins anew", self._settings.name)
            _log.info("%s: the run has finished", self._settings.name)

    def _took_part(self) -> bool:
        """Take part to the run's end; or until the experiment has changed."""
        self._connection.pick_up()
        registration = self._register()
        self._worker_id = WorkerId(registration.worker_id)
        self._run_id = registration.run_id
        bind(run=self._run_id)
        self._known, self._has_changed = _what_is_worked_by(registration), False
        try:
            self._take_part(registration)
        except RunChangedError as error:
            self._leave(str(error), told_to_stop=True)
            return False
        except DrainedError as error:
            _log.info("%s: leaves: %s", self._settings.name, error)
            raise
        except KeyboardInterrupt:
            self._leave("was stopped", told_to_stop=True)
            raise
        except BaseException as error:
            # What has not been begun was not what made it leave.
            self._leave(str(error) or type(error).__name__, told_to_stop=not self._leases.is_at_work)
            raise
        return True

    def _take_part(self, registration: pb.RegisterReply) -> None:
        experiment, self._table = self._settings.limits.check_registration(registration, self._settings.device)
        self._experiment = experiment
        self._leases = Leases(2 if registration.leases > 1 else 1)
        if excess := self._settings.limits.excess_of_two(self._table, experiment, self._settings.device):
            self._hold_one(excess)
        torch.set_num_threads(experiment.training.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        self._content, self._runner = self._prepared(experiment, registration)
        _settle_memory()
        self._overseer.registered(experiment.training.threads)
        _log.info("%s: registered, on %s", self._settings.name, self._settings.device)
        connection, worker_id, leases = self._connection, self._worker_id, self._leases
        pulse = Heartbeat(connection, worker_id, leases, registration.lease_seconds, self._register_again, self._load)
        self._returning = Returning(
            connection, worker_id, leases, self._content, pulse, self._told, self._overseer, self._counted
        )
        fetching = Fetching(
            connection,
            worker_id,
            leases,
            self._content,
            self._runner,
            self._returning,
            self._check_assignment,
            self._register_again,
            self._short_of_memory,
        )
        with pulse, self._returning, fetching:
            self._overseer.on_done_with(self._leave_soon)
            while begun := leases.begin():
                if not self._work(begun):
                    self._runner.free()  # not before: until its error is dropped, what it worked with is in use

    def _leave_soon(self) -> None:
        """Leave once what has been begun is returned: the overseer has enough workers without this one."""
        self._leases.no_more(DoneWithError())
        _log.info("%s: leaves when it has nothing under work", self._settings.name)

    def _hold_one(self, excess: str) -> None:
        """Have one assignment at a time from now on."""
        if self._leases.most > 1:
            self._leases.most = 1
            _log.warning(
                "%s: does without the next assignment beside the one under work: two take %s",
                self._settings.name,
                excess,
            )

    def _short_of_memory(self, arriving: str, error: Exception) -> None:
        """Hand back what arrived when memory ran out, and do with less."""
        told = "memory ran out while it arrived"
        self._do_with_less(error, self._leases.gathering)
        if arriving:
            self._returning.hand_back(arriving, f"{told}: {first_line(error)}", f"{told}: {type(error).__name__}")

    def _do_with_less(self, error: Exception, group: object) -> None:
        """After memory ran out for a group, do without the next assignment beside it, or else tell the overseer."""
        if self._leases.most > 1 and self._leases.has_beside(group):
            self._hold_one(f"more than there is: {first_line(error)}")
        else:
            self._overseer.short_of_memory()

    def _register(self) -> pb.RegisterReply:
        held = self._settings.clients
        return self._connection.register(
            pb.RegisterRequest(
                protocol=PROTOCOL_VERSION,
                name=self._settings.name,
                incarnation=self._incarnation,
                device=str(self._settings.device),
                clients=None if held is None else pb.ClientRange(clients=sorted(held)),
                run_id=self._run_id,
                device_memory=memory_of(self._settings.device),
                torch_version=torch.__version__,
            )
        )

    def _register_again(self) -> None:
        """Register with a coordinator that was started anew; several threads do so."""
        with self._registering:
            if _what_is_worked_by(self._register()) != self._known:
                self._has_changed = True
                self._leases.no_more(_changed())  # what has been begun is of the run as it was

    def _prepared(self, experiment: Experiment, registration: pb.RegisterReply) -> tuple[Content, AssignmentRunner]:
        """Return what work is done with.

        Raises:
            LotteryFLError: there is not the memory for it, or this worker cannot take part.
        """
        try:
            return self._prepare(experiment, registration)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = f"memory ran out before any work: {type(error).__name__}: {first_line(error)}"
            raise LotteryFLError(f"{self._settings.device}: {reason}") from error

    def _prepare(self, experiment: Experiment, registration: pb.RegisterReply) -> tuple[Content, AssignmentRunner]:
        task_settings = experiment.task.model_copy(update={"data_dir": self._settings.data_dir})
        experiment = experiment.model_copy(update={"task": task_settings, "partition": self._partition(experiment)})
        task = load_task(experiment, self._settings.tasks)
        check_same_model(task, experiment, self._table, knows_frozen=registration.knows_frozen)
        self._check_version(task, registration)
        settings = self._settings
        code = local_of(registration, settings.local, any_version=settings.any_local_version)
        self._local = code and replace(code, max_epochs=settings.limits.max_epochs)
        digest = Digest(registration.initial_digest)
        content = Content(self._connection, self._table, self._worker_id, digest)
        runner = AssignmentRunner(
            task,
            experiment,
            self._table,
            content.initial,
            self._settings.device,
            self._settings.limits.max_memory,
            self._settings.keep_data,
            self._hold_one,
            self._local,
            self._counted.stages,
        )
        return content, runner

    def _check_version(self, task: Task, registration: pb.RegisterReply) -> None:
        """Compare the user's own task with the coordinator's.

        Raises:
            TaskVersionError: it is another version.
        """
        if self._settings.any_task_version:
            return
        if difference := coordinators_task(registration).difference(version_of_task(task)):
            raise TaskVersionError(
                f"task {task.name}: this worker's version is not the coordinator's: {difference}; "
                "--any-task-version takes part all the same"
            )

    def _partition(self, experiment: Experiment) -> PartitionSettings:
        named = experiment.partition.without_place  # it came over the wire: nothing but a name counts
        file = self._settings.index_file or (named.file and str(Path(self._settings.data_dir) / named.file))
        return named.model_copy(update={"file": file})

    def _work(self, leases: Sequence[Lease]) -> bool:
        """Do the work under a lease, or under those of a stack; False: some of it has come to nothing."""
        found = self._followed(leases)
        if short := next((outcome for outcome in found if isinstance(outcome, ShortOfMemoryError)), None):
            self._do_with_less(short, leases[0].group)
        for lease, outcome in zip(leases, found, strict=True):
            lease.context.run(self._settle, lease, outcome)
        return all(isinstance(outcome, Outcome) for outcome in found)

    def _followed(self, leases: Sequence[Lease]) -> Sequence[Outcome | ClientError | PayloadError | None]:
        """Return what each comes to, or why it comes to nothing; None: it is lost."""

        def on_step(epoch: int, step: int, loss: Tensor) -> None:
            self._counted.steps += 1
            for lease in leases:
                lease.note(epoch, step, loss)
            if all(lease.is_lost for lease in leases):
                raise LeaseLostError

        members = [(lease.assignment, lease.take_ready()) for lease in leases]
        try:
            return followed(self._runner, members, on_step)
        except LeaseLostError:
            return [None] * len(leases)

    def _settle(self, lease: Lease, outcome: Outcome | ClientError | PayloadError | None) -> None:
        """Return what the work under a lease has come to; where that is nothing, the lease ends."""
        if isinstance(outcome, Outcome) and not lease.is_lost:
            self._returning.result(lease, outcome)
            return
        if isinstance(outcome, ClientError | PayloadError):
            self._returning.failure(lease.id, outcome)
        else:
            self._returning.lost(lease.id)
        self._leases.end(lease)

    def _check_assignment(self, assignment: pb.Assignment) -> None:
        """Refuse what this worker does not take on; its goodbye hands the assignment back.

        Raises:
            RunChangedError: it belongs to another run than the one that this worker has prepared for.
            RefusedError: it asks for too much.
        """
        with self._registering:  # whoever is given work has been registered, and here it is known as what
            if self._has_changed:
                raise _changed()
        settings = self._settings
        settings.limits.check_assignment(assignment, self._experiment, settings.clients)
        check_local(assignment, self._local, any_version=settings.any_local_version)
        check_sends(assignment.plan, self._table)
        check_place(assignment, (lease.assignment for lease in self._leases.not_begun(group_of(assignment))))

    def _told(self, error: ClientError | PayloadError) -> str:
        settings, privacy = self._settings, self._experiment.privacy
        return told(error, privacy, holds_private=settings.clients is not None, shares=settings.share_errors)

    def _leave(self, reason: str, *, told_to_stop: bool = False) -> None:
        """Say goodbye; what is under work, or on its way here, goes back at once."""
        try:
            why = brief(f"{self._settings.name}: {reason}")
            self._connection.leave(pb.LeaveRequest(worker_id=self._worker_id, reason=why, told_to_stop=told_to_stop))
            _log.info("%s: left; what was under work was handed back", self._settings.name)
        except LotteryFLError as error:
            _log.debug("no goodbye: %s", error)


def _changed() -> RunChangedError:
    return RunChangedError("the run's experiment is another now")


def _settle_memory() -> None:
    """Let the garbage collector look at what assignments make and leave alone: all else is there to stay."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _what_is_worked_by(registration: pb.RegisterReply) -> tuple[str, ...]:
    """Return what a worker prepares for, and would have to prepare for anew."""
    local = registration.local
    return registration.experiment_json, registration.task_version_json, local.name, local.version_json
