"""A dense model of 45 M: coordinator's file → worker's parameters → coordinator's disk, against raw streams."""

import multiprocessing as mp
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ballast
from benchmarks.coordinators import CoordinatorProcess, Hands
from benchmarks.harness import Row, Spread, at_least, interleaved, seconds, share
from benchmarks.rawserver import RawServer
from lotteryfl.allocator import keep_freed_memory
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.payload import DENSE
from lotteryfl.common.wire.table import TensorTable

BASELINES = ("grpc_down", "tcp_down", "message_down", "grpc_up", "grpc_up_to_disk", "tcp_up")


@dataclass(frozen=True)
class Sizes:
    """Which model is sent, and how often."""

    model: str
    repeats: int


FULL = Sizes("45 M", repeats=5)
QUICK = Sizes("20 k", repeats=1)


def rows(sizes: Sizes) -> list[Row]:
    """Both directions, with malloc as it is and as the system sets it, on both sides."""
    found = []
    for keep_memory, malloc in ((False, "malloc's defaults"), (True, "memory kept")):
        with ProcessPoolExecutor(1, mp.get_context("spawn")) as worker:
            speeds = worker.submit(measure, sizes, keep_memory).result()
        goal = at_least(0.8) if keep_memory else None
        label = f"stream {sizes.model}, {malloc}"
        raw, disk = "raw gRPC stream", "the same, into a file"
        for way, arm, against, baseline, bound in (
            ("down", "down", raw, "grpc_down", goal),
            ("down", "down", "TCP", "tcp_down", None),
            ("down", "down", "one big message", "message_down", None),
            ("up, fsync included", "up", raw, "grpc_up", goal),
            ("up, but for fsync", "up_without_fsync", raw, "grpc_up", None),
            ("up, fsync included", "up", disk, "grpc_up_to_disk", None),
            ("up, fsync included", "up", "TCP", "tcp_up", None),
        ):
            found.append(share(f"{label}: {way}", speeds[arm], speeds[baseline], against, "GB/s", bound))
    return found


def measure(sizes: Sizes, keep_memory: bool) -> dict[str, Spread]:
    """Return GB/s by arm; this process is the worker."""
    if keep_memory:
        keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        results = sizes.repeats + 2  # the first warms up; the last never comes, so that the round stays open
        coordinator = CoordinatorProcess(
            Path(folder) / "run",
            sizes.model,
            keep_memory=keep_memory,
            clients=results,
            clients_per_round=results,
            strategy={"name": "fedavg"},
        )
        size = coordinator.table.nbytes
        with coordinator, RawServer(size, keep_memory=keep_memory) as raw:
            trip = RoundTrip(coordinator.address, coordinator.table)
            up = Upload(trip, coordinator)
            times = interleaved(
                sizes.repeats,
                down=seconds(trip.down),
                up=up.seconds,
                up_without_fsync=up.last_without_fsync,
                **{name: seconds(getattr(raw, name)) for name in BASELINES},
            )
    return {name: Spread(tuple(size / 1e9 / value for value in spread.values)) for name, spread in times.items()}


class RoundTrip:
    """One assignment after the other: values into a model's parameters, and out of them again."""

    def __init__(self, address: str, table: TensorTable) -> None:
        self._wire = WireFormat(table, "float32")
        self._tensors = named_tensors(ballast.model())
        self._hands = Hands(address, table)

    def down(self) -> None:
        """Fetch an assignment and load the model."""
        self._assignment, entries = self._hands.fetch(lambda entry: self._tensors[entry.name.removeprefix(DENSE)])
        self._wire.unpack_into(entries, {}, self._tensors)

    def up(self) -> None:
        """Return the model as it is; when this returns, it is on the coordinator's disk."""
        self._hands.submit(self._assignment, self._wire.pack(self._tensors, {}))


class Upload:
    """The way up, with and without the time that the coordinator waits for its disk."""

    def __init__(self, trip: RoundTrip, coordinator: CoordinatorProcess) -> None:
        self._measure = seconds(trip.up)
        self._coordinator = coordinator
        self._last = 0.0

    def seconds(self) -> float:
        """Send a result."""
        self._coordinator.laps()
        self._last = self._measure()
        return self._last

    def last_without_fsync(self) -> float:
        """Return what the last one took, but for fsync."""
        return self._last - sum(lap.seconds for lap in self._coordinator.laps()["fsync"])
