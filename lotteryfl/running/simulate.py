"""A whole run in one process: the coordinator's rounds and the worker's work without a network, with the same bits."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context

import torch
from torch import Tensor

from lotteryfl.client.local.files import LocalCode
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.client.work.clienterror import told
from lotteryfl.client.work.followed import followed
from lotteryfl.client.work.handover import Outcome, Ready
from lotteryfl.common.errors import ClientError, LotteryFLError, PayloadError, TaskError
from lotteryfl.common.memory.bounds import device_bound, host_bound
from lotteryfl.common.memory.need import WorkerNeed, worker_need
from lotteryfl.common.names import Digest
from lotteryfl.common.tasks import Task
from lotteryfl.common.telemetry import tracing
from lotteryfl.common.telemetry.about import about, bind, named_in
from lotteryfl.common.tensors.file import open_file, parse, save
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.text import brief, printable
from lotteryfl.common.wire.samemodel import check_same_model
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.rounds.work import Step, Work
from lotteryfl.server.rounds.workers import AsideError
from lotteryfl.server.store.rundb.steered import require_not_paused
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import result_file

_log = logging.getLogger("lotteryfl.simulate")


class Simulation:
    """One run and its only worker."""

    def __init__(
        self,
        run: RunDirectory,
        task: Task,
        device: torch.device,
        *,
        share_errors: bool = False,
        local: LocalCode | None = None,
    ) -> None:
        """Take up a run.

        Args:
            run: the open run directory.
            task: of its experiment.
            device: where to evaluate and train.
            share_errors: write on record what errors of a client's work say, also where privacy is promised.
            local: the strategy's local algorithm; None: it has none.

        Raises:
            LotteryFLError: strategy, privacy or task cannot be used, or the task's model is not the run's.
        """
        check_same_model(task, run.experiment, run.model_table, knows_frozen=run.knows_frozen)
        free = device_bound(device)
        need = worker_need(run.model_table, run.experiment, own_memory=free is not None)
        if excess := need.excess(host_bound(), free, "there are"):
            raise LotteryFLError(f"the run takes {excess}")
        if task.score != run.score:
            raise TaskError(f"task {task.name}: its score is {task.score}, and the run's in {run.path} {run.score}")
        require_not_paused(run.path, run.database)
        self._run = run
        self._share_errors = share_errors
        # A clock that stands still: where one thing is done after the other, no lease or round is ever late.
        # No broadcasts either, but to who needs the whole model: bytes are as if every client were a worker of its own.
        self._coordinator = Coordinator(run, clock=lambda: 0.0, broadcasts=False)
        self._coordinator.take_back_all("the run goes on in one process")
        self._worker_id = self._coordinator.register("simulate", "0", None)
        torch.set_num_threads(run.experiment.training.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        initial = open_file(run.model_path(0))
        self._runner = AssignmentRunner(task, run.experiment, run.model_table, initial, device, local=local)

    def run(self, show: Callable[[pb.RunStatus], None]) -> None:
        """Do what is left of the run.

        Args:
            show: is called with the run's status whenever it may have changed.

        Raises:
            LotteryFLError: the run failed; the reason is its message.
        """
        coordinator = self._coordinator
        try:
            while (step := coordinator.advance()) is not Step.ENDED:
                show(coordinator.status())
                with about(round=coordinator.round):
                    if step is Step.COMMIT:
                        self._conclude()
                    else:
                        self._work()
        finally:
            coordinator.stop()
        show(coordinator.status())
        coordinator.raise_if_failed()

    def do_next(self) -> None:
        """Do one assignment, or one stack, of the open round, and no more: for who wants to know what it takes.

        What it came to is in run.db; where that is nothing, why.
        """
        self._coordinator.advance()
        self._work()

    @property
    def need(self) -> WorkerNeed | None:
        """What of memory the last assignment's work was counted to take, before it was done; None: nothing was."""
        return self._runner.need

    def _conclude(self) -> None:
        coordinator = self._coordinator
        with tracing.within(coordinator.traces.round.parent):
            self._run.remove(coordinator.commit(coordinator.closed_round().conclude()))
        coordinator.look_at_disk()

    def _work(self) -> None:
        try:
            work = self._coordinator.lease(self._worker_id)
        except AsideError as error:
            self._coordinator.fail(f"no worker is left: {error}")
            return
        if work is None:
            return
        if not self._do([work, *self._rest_of_stack(work)]):
            self._runner.free()  # not before: until its error is dropped, what it worked with is in use

    def _rest_of_stack(self, first: Work) -> Iterator[Work]:
        has = [first.assignment.assignment_id]
        for _ in range(first.assignment.stack.more):
            work = self._coordinator.lease(self._worker_id, has)
            if work is None:
                return
            has.append(work.assignment.assignment_id)
            yield work

    def _do(self, works: Sequence[Work]) -> bool:
        """Do an assignment's work, or that of a stack; False: some of it has come to nothing."""
        ready: list[tuple[Work, Ready]] = []
        for work in works:
            try:
                ready.append((work, copy_context().run(self._load, work)))
            except PayloadError as error:
                self._give_up(work, error)
        found = followed(self._runner, [(work.assignment, each) for work, each in ready]) if ready else []
        for (work, each), outcome in zip(ready, found, strict=True):
            if isinstance(outcome, Outcome):
                each.context.run(self._take, work, outcome)
            else:
                each.context.run(self._give_up, work, outcome)
        return sum(isinstance(outcome, Outcome) for outcome in found) == len(works)

    def _give_up(self, work: Work, error: ClientError | PayloadError) -> None:
        privacy, assignment_id = self._run.experiment.privacy, work.assignment.assignment_id
        reason = told(error, privacy, holds_private=False, shares=self._share_errors)
        if reason != str(error):
            _log.warning("%s: %s", assignment_id, error)
        self._coordinator.release(self._worker_id, assignment_id, printable(brief(reason)))

    def _load(self, work: Work) -> Ready:
        assignment = work.assignment
        bind(**named_in(assignment.assignment_id))
        tracing.join(self._coordinator.traces.of(assignment.assignment_id).parent)
        with tracing.span("download"):  # what it is over a network
            download = bytearray().join(assignment_payload(self._run, work))
            masks = self._run.load_masks(Digest(assignment.mask_digest))
            base = self._base(work) if assignment.base_digest else None
        down = len(download) if base is None else TensorStream(base).size
        self._coordinator.count_bytes(assignment.assignment_id, down=down)
        entries = parse(download, assignment.assignment_id)
        return self._runner.load(self._runner.new_workplace(), assignment, entries, masks, base)

    def _take(self, work: Work, outcome: Outcome) -> None:
        id_ = work.assignment.assignment_id
        file = result_file(work.row.standing.id)
        with tracing.span("upload"):
            save(self._run.path / file, outcome.entries, "results")
        result = pb.Result(
            worker_id=self._worker_id,
            assignment_id=id_,
            examples=outcome.examples,
            metrics=outcome.metrics,
            mask_digest=outcome.mask_digest,
        )
        self._coordinator.count_bytes(id_, up=(self._run.path / file).stat().st_size)
        self._coordinator.take(result, file)

    def _base(self, work: Work) -> dict[str, Tensor]:
        """Return the whole model that an assignment starts from, without what is frozen."""
        model = open_file(self._run.tensor_path(work.source))
        return {spec.name: model[spec.name] for spec in self._run.table.lasting}
