"""One client's work in one round: what arrives into the model, what the plan says, the model into what returns."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lotteryfl.client.local.files import LocalCode
from lotteryfl.client.work.frozen import Frozen
from lotteryfl.client.work.handover import Outcome, Ready, packed
from lotteryfl.client.work.keptdata import KeptData
from lotteryfl.client.work.labelledprobe import LabelledProbe
from lotteryfl.client.work.objectiveprobe import ObjectiveProbe
from lotteryfl.client.work.planrun import PlanRun, Wanted
from lotteryfl.client.work.stack import alone, side_by_side
from lotteryfl.client.work.testdata import TestData
from lotteryfl.client.work.updateprivacy import UpdateBound, without_loss
from lotteryfl.client.work.workplace import Workplace
from lotteryfl.common import accelerators
from lotteryfl.common.errors import ClientError, PayloadError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.memory.bounds import Bound, device_bound, host_bound, left_of
from lotteryfl.common.memory.need import WorkerNeed, worker_need
from lotteryfl.common.memory.peak import PeakMeter
from lotteryfl.common.memory.shortage import NoRoomError, shortage_named
from lotteryfl.common.names import Digest
from lotteryfl.common.owncode.usercode import belonging_to
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.positions import Positions
from lotteryfl.common.pruning.modeltensors import model_tensors
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.seeding import seeded
from lotteryfl.common.tasks import ClientData, Task
from lotteryfl.common.tasks.base import augment_of
from lotteryfl.common.tasks.modelcopy import own_copy
from lotteryfl.common.telemetry.stages import Stages
from lotteryfl.common.training.loop import OnStep, TrainResult
from lotteryfl.common.training.stacked.check import Trial, check_stackable
from lotteryfl.common.training.stacked.courses import Failure
from lotteryfl.common.training.stacked.train import train_stacked
from lotteryfl.common.training.steps import check_recipe
from lotteryfl.common.transfer import copy_into, to_device, to_host
from lotteryfl.common.wire.clientmetrics import check_metrics
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.maskcoding import require_coder
from lotteryfl.common.wire.maskrule import comes_whole
from lotteryfl.common.wire.payload import KEPT, mask_density, mask_digest, pack_mask_update
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb


class AssignmentRunner:
    """Does assignments on one device, one after the other; nothing of one is left for the next.

    One thread may `load` while another follows a plan: what draws, computes or asks the task is done there alone.
    """

    def __init__(
        self,
        task: Task,
        experiment: Experiment,
        table: TensorTable,
        initial: Mapping[str, Tensor],
        device: torch.device,
        max_memory: Bound | None = None,
        keep_data: int | None = None,
        on_tight: Callable[[str], object] | None = None,
        local: LocalCode | None = None,
        stages: Stages | None = None,
    ) -> None:
        """Build the task's model, of which every assignment gets a copy.

        Args:
            task: model and data.
            experiment: the resolved experiment; its `training` section says how to train, its `wire_dtype` in what
                the weights travel, its `mask_coding` as what masks do, its `privacy` section what is kept from the
                coordinator.
            table: of the whole model and its strategy.
            initial: θ_0 by plain name; read, never changed.
            device: where to evaluate and train.
            max_memory: what the work may take of the machine's memory; None: what there is.
            keep_data: bytes of clients' data that may stay on the device between assignments; None: see `KeptData`.
            on_tight: is told what is too much where the work fits, but not with the next assignment beside it; None:
                there is none.
            local: the local algorithm that plans may name; None: there is none.
            stages: are told what the work's stages take; None: nobody is.

        Raises:
            TaskError: the model fails, or cannot be copied.
            ExperimentError: it cannot be trained here as the experiment says.
        """
        self._stages = stages or Stages()
        self._task = task
        self._data = KeptData(task, device, keep_data)
        self._test_data = TestData(task, experiment)
        self._privacy = experiment.privacy
        self._mask_coding = experiment.mask_coding
        require_coder(self._mask_coding)
        self._seed = experiment.seed
        self._wire = WireFormat(table.moving, experiment.wire_dtype, lambda: initial, Positions())
        self._bound = UpdateBound(experiment, table.moving)
        self._pristine = task.model()
        self._frozen = Frozen(table, initial)
        self._frozen.put_into(self._pristine)
        check_recipe(experiment.training, self._pristine, device)
        objective = task.objective
        if experiment.engine.stacked:
            check_stackable(self._pristine, objective)
        self._has_tried = False
        self._training = experiment.training
        self._workplace_of = partial(
            Workplace,
            table=table.moving,
            experiment=experiment,
            initial={spec.name: initial[spec.name] for spec in table.model},
            device=device,
            objective=objective,
            score=task.score,
            augment=augment_of(task),
            stages=self._stages,
        )
        self._probe = (
            LabelledProbe(task.name, self._pristine, device, experiment.evaluation.batch_size)
            if objective is None
            else ObjectiveProbe(task.name, self._pristine, objective)
        )
        self._need_of = partial(worker_need, table, experiment, own_memory=device_bound(device) is not None)
        self._max_memory = host_bound() if max_memory is None else max_memory
        self.need: WorkerNeed | None = None
        """What of memory the last work was counted to take, before it was done; None: nothing was."""
        self._meter = PeakMeter(device)
        self._device = device
        self._on_tight = on_tight
        self._local = local
        self._arriving = [item.tensor for item in model_tensors(self._pristine) if item.name in table.moving]
        self.new_workplace()  # a model that cannot be copied is named here

    def new_workplace(self) -> Workplace:
        """Return a workplace for one assignment: its model is a copy that nothing has been done with.

        What a model keeps beside the tensors that travel, such as attributes that its forward sets, would otherwise
        go from client to client on one worker, and not between two. Parameters that arrive have no values before.
        """
        return self._workplace_of(own_copy(self._pristine, self._task.name, self._arriving, self._device))

    def load(
        self,
        workplace: Workplace,
        assignment: pb.Assignment,
        entries: Mapping[str, Tensor],
        masks: Masks,
        base: Mapping[str, Tensor] | None = None,
    ) -> Ready:
        """Put what has arrived into a model.

        Args:
            workplace: new; it may have given the tensors that entries have been received into.
            assignment: its plan.
            entries: the payload: kept and dense values of the model to start from; none where there is a base.
            masks: the client's packed masks by tensor name; empty: dense.
            base: the whole model to start from, by plain name; what travels of it is packed here.

        Raises:
            PayloadError: the entries are not what table and masks say.
        """
        if base is not None and assignment.plan.measure_shared:
            return Ready(masks, None, base)
        with self._stages.within("decode"):
            if base is not None:
                entries = self._wire.pack(base, masks)
            self._load(workplace, entries, masks, assignment.plan)
        return Ready(masks, workplace, {})

    def run(
        self,
        assignment: pb.Assignment,
        entries: Mapping[str, Tensor],
        masks: Masks,
        on_step: OnStep | None = None,
        base: Mapping[str, Tensor] | None = None,
    ) -> Outcome:
        """Follow the assignment's plan; see `load` and `follow`."""
        return self.follow(assignment, self.load(self.new_workplace(), assignment, entries, masks, base), on_step)

    def follow(self, assignment: pb.Assignment, ready: Ready, on_step: OnStep | None = None) -> Outcome:
        """Follow the assignment's plan.

        Args:
            assignment: round, client, seed and plan.
            ready: what it starts from; its model is the work's from now on.
            on_step: called after every training step; what it raises ends the work, as `LeaseLostError`: an Exception
                would be the client's.

        Raises:
            PayloadError: the trained weights are not finite or cannot travel: a coordinator would refuse the result,
                which is none. Or a frozen tensor has changed.
            ClientError: the task cannot give this client's data, or its model or training fails on them; where memory
                is not enough, or runs out, it is a `ShortOfMemoryError`.
        """
        on_step = self._told(on_step)

        def train(wanted: Wanted) -> TrainResult:
            client, stages = assignment.client, self._stages
            with self._naming_shortage(client), belonging_to(client, self._task.name), stages.within("train"):
                return wanted.alone(on_step)

        self._meter.begin()
        # What data sets and models draw unasked is the same wherever, and after whatever, this is done.
        with seeded(derive_seed(assignment.seed, "unasked"), self._device):
            return alone(self._work(assignment, ready, on_step), train)

    def follow_stacked(
        self, members: Sequence[tuple[pb.Assignment, Ready]], on_step: OnStep | None = None
    ) -> list[Outcome | ClientError | PayloadError]:
        """Follow the plans of assignments of one stack, whose clients train as one model.

        Args:
            members: those that are here, with what each starts from, as for `follow`.
            on_step: as for `follow`.

        Returns:
            What each comes to, or why it comes to nothing.

        Raises:
            ExperimentError: the model, or the data, cannot be stacked.
        """
        on_step, started = self._told(on_step), time.monotonic()
        clients = {assignment.stack.row: assignment.client for assignment, _ in members}
        first = members[0][0]  # all say the same of the stack

        def train(wanted: Sequence[Wanted | None], seed: int) -> Sequence[TrainResult | Failure | None]:
            whose = [clients[row] for row, each in enumerate(wanted) if each is not None]
            with self._naming_shortage(*whose), belonging_to(whose, self._task.name), self._stages.timed("train"):
                return train_stacked(
                    self.new_workplace().model,
                    [None if each is None else each.as_row() for each in wanted],
                    seed=seed,
                    device=self._device,
                    objective=self._task.objective,
                    augment=augment_of(self._task),
                    on_step=on_step,
                )

        self._meter.begin()
        found = side_by_side(
            {assignment.stack.row: self._work(assignment, ready) for assignment, ready in members},
            {assignment.stack.row: assignment.seed for assignment, _ in members},
            {assignment.stack.row: ready.context for assignment, ready in members},
            first.stack.rows,
            derive_seed(self._seed, "stack", first.round, first.stack.first),
            train,
            self._device,
        )
        outcomes = [found[assignment.stack.row] for assignment, _ in members]
        for outcome in outcomes:
            if isinstance(outcome, Outcome):
                outcome.metrics.seconds = (time.monotonic() - started) / len(members)
        return outcomes

    def _told(self, on_step: OnStep | None) -> OnStep | None:
        """Return what is called after every step: where privacy wants it so, without the loss."""
        return without_loss(on_step) if on_step is not None and self._privacy.hides_loss else on_step

    def _naming_shortage(self, *clients: int) -> AbstractContextManager[None]:
        """Let memory that runs out in the block be named, as a `ShortOfMemoryError`."""
        return shortage_named(clients, self._task.name, lambda: str(self.need or ""), lambda: left_of(self._device))

    def free(self) -> None:
        """Give back what work that failed has left on an accelerator, and the data that is kept there.

        Raises:
            DeviceGoneError: the device is gone, as after an assertion in one of its kernels.
        """
        if not accelerators.is_accelerator(self._device):
            return
        self._data.clear()
        accelerators.release(self._device)

    def _work(
        self, assignment: pb.Assignment, ready: Ready, on_step: OnStep | None = None
    ) -> Generator[Wanted, TrainResult, Outcome]:
        self.need = None
        with self._naming_shortage(assignment.client):
            return (yield from self._follow(assignment, ready, on_step))

    def _follow(
        self, assignment: pb.Assignment, ready: Ready, on_step: OnStep | None
    ) -> Generator[Wanted, TrainResult, Outcome]:
        started = time.monotonic()
        plan = assignment.plan
        with belonging_to(assignment.client, self._task.name):
            data = self._data.of(assignment.client)
            test, everybodys = self._test_data.own(assignment, data), self._test_data.everybodys(assignment)
            of_shared = self._test_data.of_shared(assignment)
            self._look_at(assignment.client, data, everybodys if of_shared is None else of_shared)
            shared = None if of_shared is None else self._measure(self._as_sent(ready, plan), of_shared)
        if assignment.HasField("stack"):
            self._try_stacked(assignment.client, data)
        masks, workplace = ready.masks, ready.workplace
        if workplace is None:
            workplace = self.new_workplace()
            with self._stages.within("decode"):
                self._load(workplace, self._wire.pack(ready.base, masks), masks, plan)
        start = self._bound.start(workplace.items, assignment.round)
        with belonging_to(assignment.client, self._task.name):
            run = PlanRun(workplace, assignment, data, masks, self._local, on_step)
            downloaded = workplace.evaluate(test, run.downloaded())
            done = yield from run.follow()
        tensors = named_tensors(workplace.model)  # as they are now: models put new buffers in the place of others
        self._frozen.require_unchanged(tensors)
        tensors.update(workplace.tensors)
        self._bound.apply(tensors, start, done.masks)
        wire = self._wire.of_result(plan)
        with self._stages.within("encode"):
            values = packed(wire, tensors, done.masks, own=plan.owns_unkept)
        with belonging_to(assignment.client, self._task.name):
            # Saliencies are in the model's place: there is nothing to evaluate.
            measured = done.personalised() if done.personalised else None
            personalised = downloaded if plan.measure_saliency else workplace.evaluate(test, measured)
            globally = None if everybodys is None else workplace.evaluate(everybodys, measured)
        metrics = pb.ClientMetrics(
            downloaded=downloaded,
            validation=done.validation,
            personalised=personalised,
            global_test=globally,
            shared_model=shared,
            train_loss=0.0 if self._privacy.hides_loss else done.trained.loss,
            density=mask_density(self._wire.table, done.masks),
            seconds=time.monotonic() - started,
        )
        check_metrics(metrics, globally=everybodys is not None, score=self._task.score, shared=shared is not None)
        with self._stages.within("encode"):
            wire.check(values, done.masks, own=plan.owns_unkept)
            update = pack_mask_update(done.masks, {} if comes_whole(plan) else masks, self._mask_coding)
            digest = Digest(assignment.mask_digest if done.masks is masks else "") or mask_digest(done.masks)
            entries = to_host(values) | update
        peak = self._meter.peak()
        self._data.note_taken(peak.device)
        return Outcome(done.trained.examples, metrics, done.masks, digest, entries, peak)

    def _look_at(self, client: int, data: ClientData, everybodys: Dataset[Any] | None) -> None:
        """Find out before any work is done whether it can be, on these data and in the memory that there is."""
        need = self.need = self._need_of(activations=self._probe.look(client, data, everybodys))
        if self._data.nbytes and need.excess(self._max_memory, self._data.room(), "this worker takes on"):
            self._data.clear()  # it only saves time
        room = self._data.room()
        if excess := need.excess(self._max_memory, room, "this worker takes on"):
            raise NoRoomError(f"client {client} of task {self._task.name}: the work takes {excess}")
        if self._on_tight and (excess := need.with_next().excess(self._max_memory, room, "this worker takes on")):
            self._on_tight(excess)

    def _try_stacked(self, client: int, data: ClientData) -> None:
        """Find out, once, whether the task's model can be trained as many; what fails by itself too is the client's."""
        if self._has_tried:
            return
        task = self._task
        trial = Trial(self._pristine, data.train, self._training, self._device, task.objective, augment_of(task))
        with seeded(0, self._device):  # what is drawn here is not missing later
            with belonging_to(client, task.name):
                trial.alone()
            trial.stacked()
        self._has_tried = True

    def _as_sent(self, ready: Ready, plan: pb.Plan) -> Mapping[str, Tensor]:
        """Return the shared model as clients get it: a mask that is of what is sent is on no other model."""
        if not plan.HasField("free_mask"):
            return ready.base
        return self._wire.unpack(self._wire.pack(ready.base, ready.masks), ready.masks)

    def _measure(self, shared: Mapping[str, Tensor], data: Dataset[Any]) -> pb.Evaluation:
        """Score the shared model; no model and no generator that the work comes to knows of it."""
        workplace = self.new_workplace()
        moving = [spec.name for spec in self._wire.table.model]
        copy_into({name: workplace.items[name].tensor.detach() for name in moving}, shared)
        with seeded(0, self._device):
            return workplace.evaluate(data)

    def _load(self, workplace: Workplace, entries: Mapping[str, Tensor], masks: Masks, plan: pb.Plan) -> None:
        own = plan.owns_unkept
        workplace.prune({} if own or plan.HasField("free_mask") else masks)
        tensors = {name: item.tensor.detach() for name, item in workplace.items.items()} | dict(workplace.tensors)
        entries = to_device(entries, self._device)
        for key, value in entries.items():
            if key.startswith(KEPT) and value.is_floating_point() and not own:
                value.add_(0)  # a kept 0 is +0, as training has it in a pruned weight
        self._wire.unpack_into(entries, masks, tensors, own=own)
