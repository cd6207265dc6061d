"""A page that is looked at: what its viewers cost the coordinator of a run of 200 workers, and the page's own process,
which holds nothing of them when they have left. Linux."""

import asyncio
import multiprocessing as mp
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from benchmarks import ballast
from benchmarks.coordinators import TASK
from benchmarks.harness import Row, Spread, at_most, share
from benchmarks.parts.fleet import Worker, connected, cpu_clock
from benchmarks.peakmemory import anonymous_memory
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.server.rounds.setup import create_run

_STARTED = 60.0


@dataclass(frozen=True)
class Sizes:
    """How many work and how many look, in how many pairs of rounds, and for how long a round lasts at least."""

    workers: int
    viewers: int
    pairs: int
    seconds: float
    beats: int
    """Heartbeats of each worker in a round."""
    idle: float
    """Seconds after which the page's process has given back what its viewers had."""


FULL = Sizes(workers=200, viewers=50, pairs=5, seconds=10.0, beats=3, idle=40.0)
QUICK = Sizes(workers=4, viewers=2, pairs=1, seconds=0.3, beats=1, idle=0.0)


class _Cost(NamedTuple):
    """CPU seconds of one round, and what the page's process has in memory at its end."""

    coordinator: float
    page: float
    memory: float


class _Served(NamedTuple):
    """Two processes, and where they listen."""

    coordinator: int
    page: int
    address: str
    url: str


def rows(sizes: Sizes) -> list[Row]:
    """Rounds with and without viewers, in turn; one before warms up."""
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder) / "run", sizes) as served:
        without, looked_at, left = asyncio.run(_measure(sizes, served))
    label, against = f"{sizes.workers} workers, {sizes.viewers} viewers", "no viewer"

    def pair(figure: Callable[[_Cost], float]) -> tuple[Spread, Spread]:
        return Spread(tuple(map(figure, looked_at))), Spread(tuple(map(figure, without)))

    ours, bare = pair(lambda cost: cost.coordinator)
    page, alone = pair(lambda cost: cost.page)
    before = Spread((looked_at[0].memory,))
    return [
        share(f"{label}: coordinator's CPU a round", ours, bare, against, "s", at_most(1.05)),
        share(f"{label}: page's CPU a round", page, alone, against, "s"),
        share(
            f"{label}: page's memory after them", Spread((left,)), before, "with the first of them", "MB", at_most(1.0)
        ),
    ]


async def _measure(sizes: Sizes, served: _Served) -> tuple[list[_Cost], list[_Cost], float]:
    without: list[_Cost] = []
    looked_at: list[_Cost] = []
    async with AsyncExitStack() as stack:
        workers = [Worker(await connected(stack, served.address), number) for number in range(sizes.workers)]
        for worker in workers:
            await worker.register()
        await _round(sizes, workers, served)
        for _ in range(sizes.pairs):
            without.append(await _round(sizes, workers, served))
            with _viewers(served.url, sizes.viewers):
                looked_at.append(await _round(sizes, workers, served))
        await asyncio.sleep(sizes.idle)
        return without, looked_at, _megabytes(served.page)


async def _round(sizes: Sizes, workers: Sequence[Worker], served: _Served) -> _Cost:
    """Do a round's work, with the workers' heartbeats spread over it; return what it has cost."""
    clocks = cpu_clock(served.coordinator), cpu_clock(served.page)
    before = [time.clock_gettime(clock) for clock in clocks]

    async def work(number: int, worker: Worker) -> None:
        await worker.fetch()
        for _ in range(sizes.beats):
            await asyncio.sleep(sizes.seconds / sizes.beats * (0.5 + number / len(workers) / 2))
            await worker.heartbeat()
        await worker.submit()

    await asyncio.gather(*(work(number, worker) for number, worker in enumerate(workers)))
    coordinator, page = (time.clock_gettime(clock) - then for clock, then in zip(clocks, before, strict=True))
    return _Cost(coordinator, page, _megabytes(served.page))


@contextmanager
def _served(path: Path, sizes: Sizes) -> Iterator[_Served]:
    """Serve a run with a page, as people do it, while the block runs."""
    os.environ[ballast.SIZE] = "20 k"
    table = {
        "rounds": 2 * sizes.pairs + 2,
        "clients": sizes.workers,
        "clients_per_round": sizes.workers,
        "task": {"name": TASK},
        "strategy": {"name": "fedavg"},
        "round": {"broadcasts": False, "leases": 1},
    }
    with create_run(path, validate(table, "benchmark"), (TASK,)):
        pass
    arguments = ["serve", path, f"--task={TASK}", "--listen=127.0.0.1:0", "--dashboard=127.0.0.1:0"]
    process = subprocess.Popen(  # noqa: S603 - of the benchmark's own words
        [sys.executable, "-m", "lotteryfl", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        found = _said(process, r"listening at (?P<address>\S+)", r"page: (?P<url>\S+)")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield _Served(process.pid, int(children[-1]), found["address"], found["url"])
    finally:
        process.terminate()
        process.communicate()


def _said(process: "subprocess.Popen[str]", *patterns: str) -> dict[str, str]:
    """Return what lines of a process say that it prints in any order."""
    found: dict[str, str] = {}
    for line in process.stderr or ():
        for pattern in patterns:
            found |= match.groupdict() if (match := re.search(pattern, line)) else {}
        if len(found) == len(patterns):
            return found
    raise RuntimeError(f"the coordinator has ended: expected lines with {' and '.join(patterns)}")


@contextmanager
def _viewers(url: str, count: int) -> Iterator[None]:
    """Have so many look on, from a process of their own, while the block runs."""
    ours, theirs = mp.get_context("spawn").Pipe()
    process = mp.get_context("spawn").Process(target=_look, args=(url, count, theirs))
    process.start()
    if not ours.poll(_STARTED):
        raise RuntimeError("nobody sees the page")
    ours.recv()
    try:
        yield
    finally:
        ours.send("enough")
        process.join()


def _look(url: str, count: int, pipe: Connection) -> None:
    asyncio.run(_look_on(url, count, pipe))


async def _look_on(url: str, count: int, pipe: Connection) -> None:
    """Open the first picture and then the stream, as a browser does; read all of it until it is enough."""
    host, port = re.findall(r"//(.*):(\d+)", url)[0]
    seen = asyncio.Barrier(count + 1)

    async def view() -> None:
        for path in ("/", "/api/runs/run", "/api/runs/run/stream"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            if path.endswith("stream"):
                await reader.readuntil(b"event: fleet")
                await seen.wait()
            while await reader.read(1 << 16):
                pass
            writer.close()

    views = [asyncio.create_task(view()) for _ in range(count)]
    await seen.wait()
    pipe.send("seen")
    await asyncio.to_thread(pipe.recv)
    for each in views:
        each.cancel()


def _megabytes(pid: int) -> float:
    return anonymous_memory(pid) / 1e6
