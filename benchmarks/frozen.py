"""A large transformer with LoRA beside one trained whole, through processes: `python -m benchmarks.frozen [CASE]`."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
from tabulate import tabulate

from benchmarks import adaptedmodel
from benchmarks.peakmemory import MIB, MemoryWatch
from lotteryfl.server.results.view import open_run
from lotteryfl.server.store.rundir import RunDirectory

FULL = {"words": 50257, "width": 1024, "layers": 24}
"""353 M values without adapters."""
QUICK = {"words": 97, "width": 64, "layers": 1}
"""Shows that it works, and nothing else."""
RANKS = {"LoRA of rank 8": 8, "dense": 0}
_ROUNDS = 3
_CLIENTS = 2


class Outcome(NamedTuple):
    """One run: bytes, and seconds."""

    values: int
    up: int
    """Of a client in a round, on average."""
    down: int
    initial: int
    """Of θ_0's file."""
    later: int
    """Of the file of the last global model."""
    coordinator: int
    """The process's memory at its peak, mapped files apart."""
    worker: int
    seconds: float


def main() -> None:
    """Measure, print."""
    columns = [
        "values", "bytes up, client-round", "bytes down", "θ_0", "later model file", "coordinator, MiB", "worker, MiB",
        "seconds",
    ]  # fmt: skip
    rows = []
    for name in sys.argv[1:] or RANKS:
        found = measured(FULL, RANKS[name])
        sizes = [f"{size:,}" for size in found[:5]]
        rows.append([name, *sizes, found.coordinator // MIB, found.worker // MIB, f"{found.seconds:.0f}"])
        print(name, file=sys.stderr)
    print(tabulate(rows, ["", *columns], tablefmt="github", disable_numparse=True))


def measured(sizes: Mapping[str, int], rank: int) -> Outcome:
    """Run it with a coordinator and one worker; seconds are those of the whole run, the start of both included."""
    experiment: dict[str, Any] = {
        "rounds": _ROUNDS,
        "clients": _CLIENTS,
        "clients_per_round": _CLIENTS,
        "task": {"name": adaptedmodel.__file__, "options": {**sizes, "rank": rank}},
        "training": {"epochs": 1, "batch_size": 4, "lr": 0.01, "threads": 2},
        "evaluation": {"batch_size": 2},
        "strategy": {"name": "fedavg"},
        "round": {"lease": 60, "broadcasts": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder) / "run.toml", Path(folder) / "run"
        file.write_text(tomli_w.dumps(experiment))
        address = "unix:" + str(Path(folder) / "socket")
        task = ["--task", adaptedmodel.__file__]
        start = time.monotonic()
        server = _start("serve", str(file), "--listen", address, "--run-dir", str(run), *task)
        worker = _start("work", "--coordinator", address, "--patience", "300", *task)
        with MemoryWatch(server.pid) as of_server, MemoryWatch(worker.pid) as of_worker:
            for process in (worker, server):
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it can be looked at until it is waited for
        seconds = time.monotonic() - start
        if any(process.wait() for process in (worker, server)):
            raise RuntimeError("the run did not end well: see what its processes have written")
        with RunDirectory(run, read_only=True) as directory, open_run(run) as view:
            traffic = view.assignments()[["bytes_up", "bytes_down"]].mean()
            initial, later = (directory.model_path(round_).stat().st_size for round_ in (0, _ROUNDS))
            values = sum(spec.numel for spec in directory.model_table)
    up, down = int(traffic["bytes_up"]), int(traffic["bytes_down"])
    return Outcome(values, up, down, initial, later, of_server.peak, of_worker.peak, seconds)


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "lotteryfl", *arguments], stdin=subprocess.DEVNULL)  # noqa: S603


if __name__ == "__main__":
    main()
