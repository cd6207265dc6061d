"""`make profile`: where the time of a sparse round goes, and what an assignment costs where a thousand workers come.

Two pictures in profile.svg: a round of 2 × 11 M at density 0.1 as a time-line of its steps, by process; and the
coordinator's processor time for an assignment of 20 k, by thread and step, as py-spy samples it. README.md says what
they show.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.parts import fleet, floor
from benchmarks.parts import round as rounds
from benchmarks.picture import draw
from benchmarks.stopwatch import Lap, Laps

PATH = Path(__file__).with_name("profile.svg")

_OWN = "gRPC's own threads", "to and from the sockets"
_WAITS = r"^(sync|sync_folder|_sync|AtomicFile\.sync) "
"""Functions that wait for the disk, and take no processor time."""

_STEPS: dict[str, tuple[tuple[str, str], ...]] = {
    "MainThread": (
        (
            "limits and identity",
            r"timeouts\.py|rpc/(limits|quotas|authentication|aborts|tensorstreams)\.py|limited|_share|_who",
        ),
        ("gRPC's messages and calls", r"limiting\.py|grpc/|^Handle\._run"),
        ("the service", r"server/rpc/"),
        ("the event loop", r"^BaseEventLoop\._run_once"),
    ),
    "coordinator": (
        ("leases", r"Coordinator\.lease"),
        ("results", r"Coordinator\.(settle|wanted)"),
        ("the round", r"Coordinator\.(advance|commit|status|closed_round)"),
        ("notes and hand-overs", r"^_worker "),
    ),
    "asyncio": (
        ("results' files", r"Spool\.take"),
        ("results' checks", r"^examine "),
        ("aggregation", r"\.conclude "),
        ("hand-overs", r"^_worker "),
    ),
}
"""By thread, its steps, each with a function or file of it: what is nearest to where a sample was taken says which."""


class Sizes(NamedTuple):
    """How much is profiled."""

    rounds: rounds.Sizes
    fleet: fleet.Sizes


FULL = Sizes(rounds.Sizes(floor.WORKERS, "11 M", 6), fleet.Sizes(workers=1000, seconds=1.0))
QUICK = Sizes(rounds.Sizes(1, "20 k", 2), fleet.Sizes(workers=10, seconds=0.2))


def main() -> None:
    """Profile, and write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, and nothing else")
    parser.add_argument("--out", type=Path, default=PATH, help="the picture [default: %(default)s]")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    costs = fleet_costs(sizes.fleet)
    for (thread, step), seconds in costs.items():
        print(f"{1000 * seconds:6.2f} ms  {thread}: {step}")
    draw(options.out, *sparse_round(sizes.rounds), costs, sizes.fleet.workers)
    print(f"written: {options.out}")


def sparse_round(sizes: rounds.Sizes) -> tuple[Lap, Mapping[str, Laps]]:
    """Return the fastest round, which the rest of the machine has held up least, and what each process did."""
    found, _ = rounds.run_processes(sizes, floor.PRUNED)
    fastest = min(rounds.measured_rounds(found[-1], sizes.rounds), key=lambda lap: lap.seconds)
    names = [f"worker {number}" for number in range(1, sizes.workers + 1)]
    return fastest, dict(zip([*names, "coordinator"], found, strict=True))


def fleet_costs(sizes: fleet.Sizes) -> dict[tuple[str, str], float]:
    """Return by thread and step the coordinator's seconds of processor time for an assignment."""
    with tempfile.TemporaryDirectory() as folder:
        coordinator = fleet.coordinator_of(sizes, Path(folder) / "run", lease=600.0)
        stacks = Path(folder) / "stacks"
        with coordinator, _sampled(coordinator.pid, stacks):
            before = _processor_seconds(coordinator.pid)
            fleet.load(fleet.drive_coordinator, sizes, coordinator.address, coordinator.pid)
            taken = _processor_seconds(coordinator.pid)
        found = samples(stacks)
    costs: dict[tuple[str, str], float] = defaultdict(float)
    for thread, seconds in taken.items():
        steps = found.get(thread, Counter({_OWN: 1}))
        for key, count in steps.items():
            costs[key] += (seconds - before.get(thread, 0.0)) / (3 * sizes.workers) * count / steps.total()
    order = [*_STEPS, _OWN[0]]
    return dict(sorted(costs.items(), key=lambda item: (order.index(item[0][0]), -item[1])))


@contextmanager
def _sampled(pid: int, file: Path) -> Iterator[None]:
    """Have py-spy write the stacks of a process's threads that run while the block does."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if spy is None:
        raise SystemExit("py-spy is not installed: make profile, or pip install 'lotteryfl[profile]'")
    command = [spy, "record", "--pid", str(pid), "--output", str(file), "--format", "raw", "--threads", "--nonblocking"]
    process = subprocess.Popen([*command, "--duration", "3600"], stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        if process.stdout is not None:
            process.stdout.readline()  # it has found the threads
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()


def samples(file: Path) -> dict[str, Counter[tuple[str, str]]]:
    """Count by thread's number its samples of each step."""
    found: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for line in file.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        kind = next((kind for kind in _STEPS if kind in thread), None)
        if kind is None or not frames or re.match(_WAITS, frames[-1]):
            continue
        at = (step for frame in reversed(frames) for step, sign in _STEPS[kind] if re.search(sign, frame))
        if step := next(at, None):
            found[re.sub(r"\D", "", thread.partition(":")[0])][kind, step] += int(count)
    return found


def _processor_seconds(pid: int) -> dict[str, float]:
    """Return by number what each of a process's threads has taken."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {task.name: int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9 for task in tasks}


if __name__ == "__main__":
    main()
