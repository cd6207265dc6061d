"""A thousand workers at one coordinator: their heartbeats, and a round with the paper's CNN."""

import asyncio
import ctypes
import multiprocessing as mp
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import grpc

from benchmarks.coordinators import CoordinatorProcess, answer
from benchmarks.harness import Row, Spread, at_most, constant, share
from benchmarks.rawserver import RawServer
from lotteryfl.common.security.channel import CLIENT_OPTIONS, POLL_SECONDS, PROTOCOL_VERSION
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc

LEASE = 60.0

_OPTIONS = [*CLIENT_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]  # a connection of its own for every worker


@dataclass(frozen=True)
class Sizes:
    """How many workers there are, and for how long one heartbeat of each is awaited."""

    workers: int
    seconds: float


FULL = Sizes(workers=1000, seconds=LEASE / 3)  # as often as heartbeats come
QUICK = Sizes(workers=10, seconds=0.2)


@dataclass(frozen=True)
class Load:
    """What the load generator has seen."""

    heartbeats: list[float]
    """Seconds from each call to its answer."""
    cpu: float
    """Share of one core that the server took meanwhile."""
    rounds: list[float]
    """Seconds from the first call to the last answer."""


def coordinator_of(sizes: Sizes, path: Path, lease: float) -> CoordinatorProcess:
    """Return a coordinator whose rounds have an assignment of 20 k for every worker.

    Args:
        sizes: how many workers there are.
        path: of its run directory.
        lease: seconds.
    """
    return CoordinatorProcess(
        path,
        "20 k",
        rounds=3,
        clients=sizes.workers,
        clients_per_round=sizes.workers,
        strategy={"name": "fedavg"},
        round={"lease": lease, "broadcasts": False},
    )


def rows(sizes: Sizes) -> list[Row]:
    """Ours beside a bare server that answers as many calls, and as large ones."""
    with tempfile.TemporaryDirectory() as folder:
        coordinator = coordinator_of(sizes, Path(folder) / "run", LEASE)
        payload = coordinator.table.nbytes
        with coordinator:
            ours = load(drive_coordinator, sizes, coordinator.address, coordinator.pid)
        with RawServer(payload, keep_memory=True) as raw:
            bare = load(drive_raw, sizes, raw.address, raw.pid)
    label = f"{sizes.workers} workers"
    mine, theirs = (quantiles(load.heartbeats, n=100) for load in (ours, bare))
    against = "bare aio server"
    shares = constant(ours.cpu), constant(bare.cpu)
    whole = Spread(tuple(ours.rounds)), Spread(tuple(bare.rounds))
    return [
        share(f"{label}: heartbeat, p50", _ms(mine[49]), _ms(theirs[49]), against, "ms"),
        share(f"{label}: heartbeat, p99", _ms(mine[98]), _ms(theirs[98]), against, "ms", at_most(5, "ours")),
        share(f"{label}: server's share of a core", *shares, against, "cores", at_most(0.2, "ours")),
        share(f"{label}: a round of 20 k", *whole, against, "s", at_most(2.5)),
    ]


def _ms(seconds: float) -> Spread:
    return constant(1000 * seconds)


def load(drive: Callable[[Sizes, str, int], Load], sizes: Sizes, address: str, pid: int) -> Load:
    """Drive a server from a process of its own."""
    with ProcessPoolExecutor(1, mp.get_context("spawn")) as generator:
        return generator.submit(drive, sizes, address, pid).result()


def drive_coordinator(sizes: Sizes, address: str, pid: int) -> Load:
    """Be the workers of three rounds; in the first, each keeps its lease by a heartbeat before it answers."""
    return asyncio.run(_drive_coordinator(sizes, address, pid))


async def _drive_coordinator(sizes: Sizes, address: str, pid: int) -> Load:
    async with AsyncExitStack() as stack:
        workers = [Worker(await connected(stack, address), number) for number in range(sizes.workers)]
        for worker in workers:
            await worker.register()
        await _all(worker.fetch for worker in workers)
        heartbeats, cpu = await _heartbeats([worker.heartbeat for worker in workers], sizes.seconds, pid)
        await _all(worker.submit for worker in workers)
        rounds = []
        for _ in range(2):
            start = time.perf_counter()
            await _all(worker.fetch_and_submit for worker in workers)
            rounds.append(time.perf_counter() - start)
    return Load(heartbeats, cpu, rounds)


def drive_raw(sizes: Sizes, address: str, pid: int) -> Load:
    """Make as many calls with as many bytes at a server that does nothing with them."""
    return asyncio.run(_drive_raw(sizes, address, pid))


async def _drive_raw(sizes: Sizes, address: str, pid: int) -> Load:
    async with AsyncExitStack() as stack:
        channels = [await connected(stack, address) for _ in range(sizes.workers)]

        def echo(channel: Any) -> Callable[[], Awaitable[object]]:
            return lambda: channel.unary_unary("/raw/Echo")(bytes(50))

        async def trip(channel: Any) -> None:
            received = [part async for part in channel.unary_stream("/raw/Down")(b"")]
            await channel.stream_unary("/raw/Up")(received)

        for channel in channels:
            await echo(channel)()
        heartbeats, cpu = await _heartbeats([echo(channel) for channel in channels], sizes.seconds, pid)
        rounds = []
        for _ in range(3):
            start = time.perf_counter()
            await asyncio.gather(*(trip(channel) for channel in channels))
            rounds.append(time.perf_counter() - start)
    return Load(heartbeats, cpu, rounds[1:])


class Worker:
    """A worker's calls; its result is the model as it came."""

    def __init__(self, channel: Any, number: int) -> None:
        self._stub: Any = pb_grpc.CoordinatorStub(channel)
        self._name = f"worker-{number}"

    async def register(self) -> None:
        """Announce the worker."""
        incarnation = uuid.uuid4().hex
        request = pb.RegisterRequest(protocol=PROTOCOL_VERSION, name=self._name, incarnation=incarnation, device="cpu")
        self._id = (await self._stub.Register(request)).worker_id

    async def fetch(self) -> None:
        """Wait for an assignment, and take its payload."""
        request = pb.FetchAssignmentRequest(worker_id=self._id, wait_seconds=POLL_SECONDS)
        first, *chunks, last = [part async for part in self._stub.FetchAssignment(request)]
        self._assignment, self._chunks, self._trailer = first.assignment, chunks, last.trailer

    async def submit(self) -> None:
        """Return the result, with as little work as the bare server's caller has."""
        parts = [
            pb.ResultPart(result=answer(self._id, self._assignment, self._assignment.payload.size)),
            *(pb.ResultPart(chunk=part.chunk) for part in self._chunks),
            pb.ResultPart(trailer=self._trailer),
        ]
        reply = await self._stub.SubmitResult(parts)
        if reply.verdict != pb.SubmitReply.ACCEPTED:
            raise AssertionError(f"{pb.SubmitReply.Verdict.Name(reply.verdict)}: {reply.reason}")

    async def fetch_and_submit(self) -> None:
        """Do a round's work."""
        await self.fetch()
        await self.submit()

    async def heartbeat(self) -> None:
        """Renew the lease."""
        progress = [pb.AssignmentProgress(assignment_id=self._assignment.assignment_id, epoch=1, step=1, loss=1.0)]
        await self._stub.Heartbeat(pb.HeartbeatRequest(worker_id=self._id, progress=progress))


async def connected(stack: AsyncExitStack, address: str) -> Any:
    """Return a connection of its own to a server, closed with the stack."""
    return await stack.enter_async_context(grpc.aio.insecure_channel(address, options=_OPTIONS))


async def _all(calls: Any) -> None:
    await asyncio.gather(*(call() for call in calls))


async def _heartbeats(
    calls: Sequence[Callable[[], Awaitable[object]]], seconds: float, pid: int
) -> tuple[list[float], float]:
    """Make the calls spread over so many seconds; return what each took, and the server's share of a core."""

    async def beat(number: int, call: Callable[[], Awaitable[object]]) -> float:
        await asyncio.sleep(seconds * number / len(calls))
        start = time.perf_counter()
        await call()
        return time.perf_counter() - start

    clock = cpu_clock(pid)
    cpu, start = time.clock_gettime(clock), time.perf_counter()
    taken = await asyncio.gather(*(beat(number, call) for number, call in enumerate(calls)))
    return list(taken), (time.clock_gettime(clock) - cpu) / (time.perf_counter() - start)


def cpu_clock(pid: int) -> int:
    """Return the clock of the processor time that a process has taken, in and for it."""
    clock = ctypes.c_int()
    if error := ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise OSError(error, f"process {pid}: no clock of its processor time")
    return clock.value
