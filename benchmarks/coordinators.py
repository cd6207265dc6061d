"""A coordinator in a process of its own, on loopback, with a stopwatch in it, and a worker's calls to it."""

import asyncio
import multiprocessing as mp
import os
import uuid
from collections.abc import Mapping
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

import lotteryfl.server.rpc.receiving
from benchmarks import ballast
from benchmarks.peakmemory import settle_memory
from benchmarks.stopwatch import Laps, Stopwatch
from lotteryfl.allocator import keep_freed_memory
from lotteryfl.client.connection import Connection
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.names import WorkerId
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.security.channel import PROTOCOL_VERSION
from lotteryfl.common.tensors.receiver import FileReceiver
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.tensors.tensorreceiver import Place, new_tensor
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.framing import Part, frames
from lotteryfl.common.wire.payload import mask_density, mask_digest, max_payload_bytes
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.conclusion import ClosedRound
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.rpc.server import CoordinatorServer
from lotteryfl.server.store.rundir import RunDirectory

TASK = "benchmarks.ballast"


class CoordinatorProcess:
    """Sets up a run of the ballast task and serves it while the block runs."""

    def __init__(self, path: Path, size: str, *, keep_memory: bool = True, **experiment: Any) -> None:
        """Set up the run.

        Args:
            path: a new run directory.
            size: one of `benchmarks.inputs.MODELS`.
            keep_memory: as the product does, see `lotteryfl.allocator`.
            experiment: keys and sections of the experiment file.
        """
        os.environ[ballast.SIZE] = size  # here, and in the processes that are started from here
        table: dict[str, Any] = {
            "task": {"name": TASK},
            "training": {"epochs": 1},
            "round": {"lease": 600.0, "broadcasts": False},
        }
        self.experiment = validate({**table, **experiment}, "benchmark")
        with create_run(path, self.experiment, (TASK,)) as run:
            self.table = run.table
        spawn = mp.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(path, keep_memory, theirs))

    def __enter__(self) -> Self:
        self._process.start()
        self.address = f"127.0.0.1:{self._pipe.recv()}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.send("stop")
        self._process.join()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid or 0

    def laps(self) -> Laps:
        """Return the calls of the coordinator's functions since the last time."""
        laps: Laps = self._ask("laps")
        return laps

    def settle_memory(self) -> None:
        """Make the process give back what it has freed."""
        self._ask("settle")

    def _ask(self, what: str) -> Any:
        self._pipe.send(what)
        return self._pipe.recv()


class Hands:
    """A worker's calls, made one by one."""

    def __init__(self, address: str, table: TensorTable, name: str = "hands") -> None:
        self._connection = Connection(address, patience=30.0)
        self._table = table
        self._limit = max_payload_bytes(table)
        request = pb.RegisterRequest(protocol=PROTOCOL_VERSION, name=name, incarnation=uuid.uuid4().hex, device="cpu")
        self.worker_id = WorkerId(self._connection.register(request).worker_id)

    def fetch(self, place: Place = new_tensor) -> tuple[pb.Assignment, dict[str, Tensor]]:
        """Fetch the next assignment; there is one."""
        fetched = self._connection.fetch_assignment(self.worker_id, self._limit, place)
        if isinstance(fetched, pb.NoWork):
            raise AssertionError(f"no work: {fetched.reason}")
        return fetched

    def submit(self, assignment: pb.Assignment, entries: Mapping[str, Tensor], masks: Masks | None = None) -> None:
        """Return a result; it is accepted."""
        payload = TensorStream(entries)
        result = answer(self.worker_id, assignment, payload.size)
        if masks:
            result.mask_digest = mask_digest(masks)
            result.metrics.density = mask_density(self._table, masks)
        reply = self._connection.submit(result, payload)
        if reply.verdict != pb.SubmitReply.ACCEPTED:
            raise AssertionError(f"{pb.SubmitReply.Verdict.Name(reply.verdict)}: {reply.reason}")


def answer(worker_id: str, assignment: pb.Assignment, size: int) -> pb.Result:
    """Return the header of a result without masks."""
    nothing = pb.Evaluation(examples=1)
    return pb.Result(
        worker_id=worker_id,
        assignment_id=assignment.assignment_id,
        examples=1,
        metrics=pb.ClientMetrics(validation=nothing, downloaded=nothing, personalised=nothing, density=1),
        payload=pb.PayloadHeader(size=size),
    )


def messages(first: Part, payload: TensorStream) -> list[Part]:
    """Return all messages that carry a payload."""
    return [type(first).FromString(message) for message in frames(first, payload)]


def silent(status: pb.RunStatus) -> None:
    """Show nothing."""


def _serve(path: Path, keep_memory: bool, parent: Pipe) -> None:
    if keep_memory:
        keep_freed_memory()
    stopwatch = Stopwatch()
    stopwatch.wrap("dispatch", Coordinator, "lease")
    stopwatch.wrap("read", WireFormat, "_entry")
    stopwatch.wrap("spool", FileReceiver, "write")
    stopwatch.wrap("fsync", os, "fsync")
    stopwatch.wrap("check", lotteryfl.server.rpc.receiving, "examine")
    stopwatch.wrap("aggregate", ClosedRound, "conclude")
    stopwatch.wrap("commit", Coordinator, "commit")
    with RunDirectory(path) as run:
        asyncio.run(_until_stopped(run, parent, stopwatch))


async def _until_stopped(run: RunDirectory, parent: Pipe, stopwatch: Stopwatch) -> None:
    stopped = asyncio.Event()

    def obey() -> None:
        match parent.recv():
            case "laps":
                parent.send(stopwatch.take())
            case "settle":
                settle_memory()
                parent.send("done")
            case "stop":
                stopped.set()

    server = CoordinatorServer(run, silent)
    async with server.listening(Endpoint("127.0.0.1:0")) as port:
        rounds = asyncio.create_task(server.rounds.run())
        asyncio.get_running_loop().add_reader(parent.fileno(), obey)
        parent.send(port)
        await stopped.wait()
        rounds.cancel()
