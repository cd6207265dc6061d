"""The worker's loop: register, fetch an assignment, do it, return the result, until the run is over."""

import gc
import logging
import os
import socket
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from lotteryfl.client.blobs import Content
from lotteryfl.client.connection import Connection, ContentGoneError, NotRegisteredError
from lotteryfl.client.heartbeat import Heartbeat, LeaseLostError
from lotteryfl.client.limits import Limits, coordinators_task
from lotteryfl.client.overseer import Overseer
from lotteryfl.client.work.assignment import AssignmentRunner, Outcome
from lotteryfl.client.work.clienterror import told
from lotteryfl.common.errors import ClientError, LotteryFLError, PayloadError, ShortOfMemoryError, TaskVersionError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.faults import fault
from lotteryfl.common.memory.bounds import memory_of
from lotteryfl.common.memory.shortage import is_out_of_memory
from lotteryfl.common.names import Digest, WorkerId
from lotteryfl.common.security.certificate import identity_of, load_certificate
from lotteryfl.common.security.channel import PROTOCOL_VERSION
from lotteryfl.common.security.identity import Identity, Role, check_name
from lotteryfl.common.security.tls import ChannelSecurity, token_name
from lotteryfl.common.tasks import Task, load_task
from lotteryfl.common.tasks.custom import version_of_task
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.text import brief
from lotteryfl.common.usercode import first_line
from lotteryfl.common.wire.payload import max_payload_bytes
from lotteryfl.common.wire.samemodel import check_same_model
from lotteryfl.protos import lotteryfl_pb2 as pb

_log = logging.getLogger("lotteryfl.worker")


@dataclass(frozen=True)
class WorkerSettings:
    """What the operator of a worker decides."""

    name: str
    """Unique in the run; a worker that starts again under its name replaces itself."""
    device: torch.device
    clients: Collection[int] | None
    """The clients whose data it holds; None: every client's."""
    tasks: Sequence[str]
    """The task files and modules, beside the built-in ones, that it is willing to run."""
    data_dir: str
    """Folder of the built-in tasks' data; empty: the usual places."""
    limits: Limits = field(default_factory=Limits)
    """What it takes on."""
    share_errors: bool = False
    """Tell the coordinator what errors of a client's work say, also of private clients."""
    any_task_version: bool = False
    """Take part also with another version of the task than the coordinator's."""
    index_file: str = ""
    """Who holds what, where the experiment says it by a file; empty: of its name, in `data_dir`."""
    keep_data: int = 0
    """Bytes of clients' data that may stay on the device between assignments."""


class RunChangedError(LotteryFLError):
    """The coordinator came back with another experiment or task than this worker works by: a run was made longer."""


class Worker:
    """One worker process, from registration to goodbye."""

    def __init__(self, connection: Connection, settings: WorkerSettings, overseer: Overseer | None = None) -> None:
        """Prepare; nothing is sent yet.

        Args:
            connection: to the coordinator.
            settings: of its operator.
            overseer: who has started it as one of several; None: nobody.
        """
        self._connection = connection
        self._settings = settings
        self._overseer = overseer or Overseer()
        self._arriving = ""
        self._incarnation = uuid.uuid4().hex
        self._run_id = ""
        self._is_at_work = False
        self._registering = Lock()
        self._has_changed = False

    def run(self) -> None:
        """Work until the coordinator says that the run has finished, or the overseer has enough workers without it.

        Raises:
            LotteryFLError: the run failed, the coordinator cannot be reached, or this worker cannot take part.
        """
        while not self._took_part():
            _log.info("%s: the run's experiment is another now, this worker begins anew", self._settings.name)
        if not self._overseer.is_done_with:
            _log.info("%s: the run has finished", self._settings.name)

    def _took_part(self) -> bool:
        """Take part to the run's end; or until the experiment has changed."""
        registration = self._register()
        self._worker_id = WorkerId(registration.worker_id)
        self._run_id = registration.run_id
        self._known, self._has_changed = _what_is_worked_by(registration), False
        try:
            self._take_part(registration)
        except RunChangedError as error:
            self._leave(str(error), told_to_stop=True)
            return False
        except KeyboardInterrupt:
            self._leave("was stopped", told_to_stop=True)
            raise
        except BaseException as error:
            # What has not been begun was not what made it leave.
            self._leave(str(error) or type(error).__name__, told_to_stop=not self._is_at_work)
            raise
        if self._overseer.is_done_with:
            self._leave("fewer workers do here", told_to_stop=True)
        return True

    def _take_part(self, registration: pb.RegisterReply) -> None:
        experiment, self._table = self._settings.limits.check_registration(registration, self._settings.device)
        self._experiment = experiment
        self._payload_limit = max_payload_bytes(self._table.moving)
        torch.set_num_threads(experiment.training.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        self._content, self._runner = self._prepared(experiment, registration)
        _settle_memory()
        self._overseer.registered(experiment.training.threads)
        _log.info("%s: registered, on %s", self._settings.name, self._settings.device)
        with Heartbeat(
            self._connection, self._worker_id, registration.lease_seconds, self._register_again
        ) as self._heartbeat:
            while not self._overseer.is_done_with and self._work_once():
                pass

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
        """Register with a coordinator that was started anew; the heartbeat's thread does so too."""
        with self._registering:
            if _what_is_worked_by(self._register()) != self._known:
                self._has_changed = True

    def _require_unchanged(self) -> None:
        """Check that the run is still the one that this worker prepared for.

        Raises:
            RunChangedError: it is not; what this worker was given goes back with its goodbye.
        """
        with self._registering:  # whoever has work has been registered, and here it is known as what
            if self._has_changed:
                raise RunChangedError("the run's experiment is another now")

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

    def _work_once(self) -> bool:
        self._arriving = ""
        try:
            fetched = self._connection.fetch_assignment(
                self._worker_id, self._payload_limit, self._runner.place, self._check_assignment
            )
        except NotRegisteredError:
            self._register_again()
            self._require_unchanged()
            return True
        except Exception as error:
            if not self._arriving or not is_out_of_memory(error):
                raise
            told = "memory ran out while it arrived"
            self._give_up(self._arriving, f"{told}: {first_line(error)}", f"{told}: {type(error).__name__}")
            self._overseer.short_of_memory()
            return True
        if isinstance(fetched, pb.NoWork):
            if fetched.failed:
                raise LotteryFLError(f"the run failed: {fetched.reason}")
            return not fetched.finished
        self._require_unchanged()
        assignment, entries = fetched
        fault("assignment-received")
        self._heartbeat.begin(assignment.assignment_id)
        self._is_at_work = True
        try:
            self._do(assignment, entries)
        except LeaseLostError:
            _log.warning("%s: lease lost, its work is dropped", assignment.assignment_id)
        finally:
            self._heartbeat.end()
        self._is_at_work = False
        return True

    def _check_assignment(self, assignment: pb.Assignment) -> None:
        """Refuse what this worker does not take on; its goodbye hands the assignment back."""
        self._settings.limits.check_assignment(assignment, self._experiment, self._settings.clients)
        self._arriving = assignment.assignment_id

    def _do(self, assignment: pb.Assignment, entries: Mapping[str, Tensor]) -> None:
        assignment_id = assignment.assignment_id
        try:
            with self._runner.naming_shortage(assignment.client):
                masks = self._content.masks(assignment)
                base = self._content.base(assignment) if assignment.base_digest else None
            self._return(assignment, self._runner.run(assignment, entries, masks, self._heartbeat.on_step, base))
        except ContentGoneError as error:
            self._give_up(assignment_id, str(error))
            raise LeaseLostError from error  # its round has ended without us: what it needs is gone
        except (ClientError, PayloadError) as error:  # the client's, or like a result that is refused
            self._give_up(assignment_id, str(error), self._told(error))
            if isinstance(error, ShortOfMemoryError):
                self._overseer.short_of_memory()
        else:
            return
        self._runner.free()  # not before: until its error is dropped, what it worked with is in use

    def _told(self, error: ClientError | PayloadError) -> str:
        settings, privacy = self._settings, self._experiment.privacy
        return told(error, privacy, holds_private=settings.clients is not None, shares=settings.share_errors)

    def _return(self, assignment: pb.Assignment, outcome: Outcome) -> None:
        result = pb.Result(
            worker_id=self._worker_id,
            assignment_id=assignment.assignment_id,
            examples=outcome.examples,
            metrics=outcome.metrics,
            mask_digest=outcome.mask_digest,
        )
        reply = self._connection.submit(result, TensorStream(outcome.entries))
        verdict = pb.SubmitReply.Verdict.Name(reply.verdict)
        if reply.verdict in (pb.SubmitReply.ACCEPTED, pb.SubmitReply.DUPLICATE):
            self._content.remember(outcome.mask_digest, outcome.masks)
            _log.info("%s: %s; it took %s", assignment.assignment_id, verdict.lower(), outcome.peak)
            self._overseer.done(outcome.examples, outcome.metrics.seconds, outcome.peak)
        else:
            _log.warning("%s: %s: %s", assignment.assignment_id, verdict.lower(), reply.reason)

    def _give_up(self, assignment_id: str, reason: str, shared: str | None = None) -> None:
        """Hand the assignment back, so that nobody waits for its lease to run out.

        Args:
            assignment_id: which.
            reason: why; the worker's log has it.
            shared: what of it the coordinator may know; None: all.
        """
        failure = pb.Failure(reason=brief(reason if shared is None else shared))
        result = pb.Result(worker_id=self._worker_id, assignment_id=assignment_id, failure=failure)
        try:
            self._connection.hand_back(result)
            _log.info("%s: handed back: %s", assignment_id, reason)
        except LotteryFLError as error:
            _log.warning("%s: could not be handed back: %s", assignment_id, error)

    def _leave(self, reason: str, *, told_to_stop: bool = False) -> None:
        """Say goodbye; what is under work, or on its way here, goes back at once."""
        try:
            why = brief(f"{self._settings.name}: {reason}")
            self._connection.leave(pb.LeaveRequest(worker_id=self._worker_id, reason=why, told_to_stop=told_to_stop))
            _log.info("%s: left; what was under work was handed back", self._settings.name)
        except LotteryFLError as error:
            _log.debug("no goodbye: %s", error)


def full_name(name: str, security: ChannelSecurity) -> str:
    """Return the name to go by.

    Args:
        name: as it was given; with a / at its end it is completed, so that no other process has it. Empty: what
            certificate or token say, or else the name of host and process.
        security: certificate and token.

    Raises:
        LotteryFLError: certificate or token are another's, or cannot be used.
    """
    process = f"{socket.gethostname()}-{os.getpid()}"
    own = [Identity(token_name(security.token), Role.WORKER)] if security.token else []
    if security.tls.cert is not None:
        own.append(identity_of(load_certificate(security.tls.cert)))
    name = name or (own[0].name if own else process)
    if name.endswith("/"):
        name += process
    check_name(name)
    for identity in own:
        if not identity.owns(name):
            raise LotteryFLError(f"--name {name}: certificate or token are those of {identity.name}")
    return name


def _settle_memory() -> None:
    """Let the garbage collector look at what assignments make and leave alone: all else is there to stay."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _what_is_worked_by(registration: pb.RegisterReply) -> tuple[str, str]:
    """Return what a worker prepares for, and would have to prepare for anew."""
    return registration.experiment_json, registration.task_version_json
