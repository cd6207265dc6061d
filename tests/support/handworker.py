"""A worker by hand: real work, and every message of its uploads in the test's own hands."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from lotteryfl.client.local.registered import local_of
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.common.experiment.experiment import from_json
from lotteryfl.common.packedmasks import PackedMask
from lotteryfl.common.security.channel import POLL_SECONDS, PROTOCOL_VERSION
from lotteryfl.common.tasks import load_task
from lotteryfl.common.tensors.file import parse
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.wire.framing import frames
from lotteryfl.common.wire.payload import masks_from_entries
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from tests.support.waiting import DEADLINE

INCARNATION = "1" * 32


@dataclass(frozen=True)
class Done:
    """An assignment's outcome, ready to be sent."""

    result: pb.Result
    entries: dict[str, torch.Tensor]

    def messages(self, offset: int = 0) -> list[pb.ResultPart]:
        """Return header, chunks and trailer, as the worker would send them."""
        payload = TensorStream(self.entries)
        self.result.payload.CopyFrom(pb.PayloadHeader(size=payload.size, offset=offset))
        first = pb.ResultPart(result=self.result)
        return [pb.ResultPart.FromString(message) for message in frames(first, payload, offset)]


class Served(Protocol):
    """A coordinator in this process or another, as a worker knows it."""

    stub: pb_grpc.CoordinatorStub

    @property
    def task(self) -> str:
        """File of the task."""


class HandWorker:
    """A registered worker."""

    def __init__(self, server: Served, name: str = "hand") -> None:
        self._stub = server.stub
        registration = self._stub.Register(
            pb.RegisterRequest(protocol=PROTOCOL_VERSION, name=name, incarnation=INCARNATION, device="cpu")
        )
        self.id = registration.worker_id
        experiment = from_json(registration.experiment_json)
        self._table = TensorTable.from_json(registration.table_json)
        initial = parse(self._blob(registration.initial_digest), "θ_0")
        task = load_task(experiment, (server.task,))
        local = local_of(registration, (), any_version=False)
        self._runner = AssignmentRunner(task, experiment, self._table, initial, torch.device("cpu"), local=local)

    def poll(
        self, wait_seconds: float = POLL_SECONDS, assignment_id: str = "", offset: int = 0
    ) -> list[pb.AssignmentPart]:
        """Return all messages of one long poll."""
        request = pb.FetchAssignmentRequest(
            worker_id=self.id, wait_seconds=wait_seconds, assignment_id=assignment_id, offset=offset
        )
        return list(self._stub.FetchAssignment(request, timeout=DEADLINE))

    def work(self) -> Done:
        """Fetch an assignment and do it."""
        return self.do(self.poll())

    def do(self, parts: list[pb.AssignmentPart]) -> Done:
        assignment, *chunks, trailer = parts
        payload = b"".join(part.chunk for part in chunks)
        assert assignment.assignment.payload.size == trailer.trailer.size == len(payload)
        masks = self._masks(assignment.assignment.mask_digest)
        entries = parse(bytearray(payload), "payload")
        digest = assignment.assignment.base_digest
        base = parse(self._blob(digest), "base") if digest else None
        outcome = self._runner.run(assignment.assignment, entries, masks, base=base)
        result = pb.Result(
            worker_id=self.id,
            assignment_id=assignment.assignment.assignment_id,
            examples=outcome.examples,
            metrics=outcome.metrics,
            mask_digest=outcome.mask_digest,
        )
        return Done(result, {name: tensor.clone() for name, tensor in outcome.entries.items()})

    def submit(self, messages: Iterable[pb.ResultPart]) -> pb.SubmitReply:
        reply: pb.SubmitReply = self._stub.SubmitResult(iter(messages), timeout=DEADLINE)
        return reply

    def hand_back(self, assignment_id: str) -> pb.SubmitReply:
        failure = pb.Failure(reason="stopped")
        result = pb.Result(worker_id=self.id, assignment_id=assignment_id, failure=failure)
        return self.submit([pb.ResultPart(result=result)])

    def finish(self) -> Iterator[pb.SubmitReply]:
        """Do all that is left of the run, one assignment a step."""
        while not (parts := self.poll())[0].none.finished:
            yield self.submit(self.do(parts).messages())

    def _masks(self, digest: str) -> dict[str, PackedMask]:
        if not digest:
            return {}
        return masks_from_entries(self._table, parse(self._blob(digest), "mask"))

    def _blob(self, digest: str) -> bytearray:
        _, *chunks, _ = self._stub.FetchBlob(pb.FetchBlobRequest(digest=digest, worker_id=self.id), timeout=DEADLINE)
        return bytearray().join(part.chunk for part in chunks)
