"""One assignment of an experiment, really done in a folder that is gone afterwards, and what it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.memory.need import WorkerNeed
from lotteryfl.common.memory.peak import Peak, PeakMeter
from lotteryfl.running.opened import opened_new
from lotteryfl.running.owncode import OwnCode
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.rounds.conclusion import ClosedRound
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import optimizer_file
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.base import Strategy

WARM_UP_SECONDS = 30.0
"""Where the first assignment, which has to warm up, takes less, another one is measured."""

_DONE = """
    SELECT a.client, a.density, r.density, a.bytes_down, a.bytes_up, r.examples
    FROM assignments a JOIN results r USING (round, client) WHERE a.state = 'done' ORDER BY a.done_at, a.client
"""


@dataclass(frozen=True)
class Measured:
    """A run after one of its assignments, and what that took."""

    run: RunDirectory
    strategy: Strategy
    client: int
    density_before: float
    """Of the mask that its work began under."""
    density_after: float
    bytes_down: int
    bytes_up: int
    examples: int
    """That it trained on."""
    seconds: float
    """Of an assignment, from its lease to its result's being counted."""
    concluding: float
    """Seconds that one result takes to be made a global model."""
    starting: float
    """Seconds of CPU until there was a run and a worker for it: imports, data, model."""
    coordinator: int
    """Bytes of memory that this process took at the peak until there was a run."""
    worker: Peak
    """What it took at the peak of the assignment."""
    need: WorkerNeed | None
    """What a worker counts beforehand that the work takes."""
    database: int
    """Bytes of run.db before any work."""
    model: int
    """Bytes of a global model; 0: there is none."""
    optimizer: int
    """Bytes of what the server's optimizer remembers."""


@contextmanager
def measured(experiment: Experiment, own: OwnCode, device: torch.device) -> Iterator[Measured]:
    """Set a run of the experiment up in a temporary folder, and do one assignment, or one stack, of it there.

    Args:
        experiment: as for a run; nothing of it is left behind.
        own: the user's own code.
        device: where to evaluate and train.

    Raises:
        LotteryFLError: the run cannot be set up, or the assignment comes to nothing: why is its message.
    """
    meter = PeakMeter(device)
    with (
        TemporaryDirectory(prefix="lotteryfl-estimate-") as folder,
        opened_new(experiment, Path(folder) / "run", own) as opened,
    ):
        run, coordinator = opened.directory, meter.peak().host
        database = (run.path / "run.db").stat().st_size
        simulation = Simulation(run, opened.task, device, local=opened.code)
        starting = time.process_time()
        seconds, worker = _timed(simulation, run, meter)
        if seconds < WARM_UP_SECONDS and any(row.state == "waiting" for row in run.database.assignments(1)):
            seconds, worker = _timed(simulation, run, meter)
        client, before, after, down, up, examples = run.database.select(_DONE).fetchall()[-1]
        strategy = create_strategy(run.experiment, run.score)
        started = time.monotonic()
        results = len(run.database.results(1))
        ClosedRound.of(run, strategy, 1, is_final=False).conclude()
        concluding = (time.monotonic() - started) / results
        yield Measured(
            run,
            strategy,
            client,
            before,
            after,
            down,
            up,
            examples,
            seconds,
            concluding,
            starting,
            coordinator,
            worker,
            simulation.need,
            database,
            run.table.lasting.nbytes if strategy.aggregates else 0,
            _size(run.path / optimizer_file(1)),
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _timed(simulation: Simulation, run: RunDirectory, meter: PeakMeter) -> tuple[float, Peak]:
    """Do the next assignment, or stack; return the seconds of each of its assignments, and what it took of memory.

    Raises:
        LotteryFLError: it came to nothing.
    """
    before = len(run.database.results(1))
    meter.begin()
    started = time.monotonic()
    simulation.do_next()
    seconds, peak = time.monotonic() - started, meter.peak()
    done = len(run.database.results(1)) - before
    if not done:
        reasons = [row.reason for row in run.database.assignments(1) if row.reason]
        raise LotteryFLError(f"the assignment to be measured came to nothing: {reasons[0] if reasons else 'no reason'}")
    return seconds / done, peak
