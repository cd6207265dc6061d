"""What each privacy option costs on digits, in accuracy and time: `python -m benchmarks.privacy [SEED ...]`."""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from tabulate import tabulate

from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.tasks import load_task
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.simulate import Simulation
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.rounds.setup import create_run

BASE: dict[str, Any] = {
    "rounds": 5,
    "clients": 40,
    "clients_per_round": 40,
    "partition": {"classes_per_client": 2, "examples_per_class": 20},
    "strategy": {"name": "fedavg"},
    "aggregation": {"weighting": "equal"},
}
QUICK = BASE | {"rounds": 1, "clients": 2, "clients_per_round": 2}
"""Shows that every case works, and nothing else."""
LOTTERY = {"name": "lotteryfl", "target_density": 0.3}

CASES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedavg, clip_norm 1": {"privacy": {"clip_norm": 1.0}},
    **{
        f"fedavg, clip_norm 1, server, z = {z}": {
            "privacy": {"clip_norm": 1.0, "noise": "server", "noise_multiplier": z}
        }
        for z in (0.1, 0.3, 1.0)
    },
    **{
        f"fedavg, clip_norm 1, client, z = {z}": {
            "privacy": {"clip_norm": 1.0, "noise": "client", "noise_multiplier": z}
        }
        for z in (0.03, 0.3)
    },
    **{
        f"fedavg, dp_sgd, z = {z}": {"privacy": {"dp_sgd": True, "noise_multiplier": z, "delta": 1e-3}}
        for z in (1.0, 2.0)
    },
    "lotteryfl": {"strategy": LOTTERY},
    "lotteryfl, clip_norm 1": {"strategy": LOTTERY, "privacy": {"clip_norm": 1.0}},
    "lotteryfl, dp_sgd, z = 1.0": {
        "strategy": LOTTERY,
        "privacy": {"dp_sgd": True, "noise_multiplier": 1.0, "delta": 1e-3},
    },
}


class Outcome(NamedTuple):
    """One run."""

    epsilon: float | None
    downloaded: float
    personalised: float
    seconds: float
    """Of the processor: in one thread, and no matter what else the machine does."""


def _silent(status: pb.RunStatus) -> None:
    """Show nothing."""


def main() -> None:
    """Measure, print."""
    seeds = [int(seed) for seed in sys.argv[1:]] or [0, 1, 2]
    rows = []
    for name, runs in outcomes(BASE, seeds):
        epsilons = [run.epsilon for run in runs if run.epsilon is not None]
        rows.append(
            [
                name,
                f"{mean(epsilons):,.3g}" if epsilons else "none",
                _spread([run.downloaded for run in runs]),
                _spread([run.personalised for run in runs]),
                f"{mean(run.seconds for run in runs):.1f}",
            ]
        )
        print(name, file=sys.stderr)
    headers = ["", "ε", "accuracy downloaded", "personalised", "CPU seconds"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def outcomes(base: Mapping[str, Any], seeds: Sequence[int]) -> Iterator[tuple[str, list[Outcome]]]:
    """Yield every case with its runs, one a seed."""
    for name, changes in CASES.items():
        yield name, [_simulate(validate({**base, **changes, "seed": seed}, name)) for seed in seeds]


def _simulate(experiment: Experiment) -> Outcome:
    task = load_task(experiment, ())
    with tempfile.TemporaryDirectory() as folder, create_run(Path(folder) / "run", experiment, ()) as run:
        start = time.process_time()
        Simulation(run, task, torch.device("cpu")).run(_silent)
        seconds = time.process_time() - start
        summary = summarise(run)
    accuracy, privacy = summary["accuracy"], summary["privacy"]
    epsilon = None if privacy is None else privacy["epsilon"]
    return Outcome(epsilon, accuracy["downloaded_last"], accuracy["personalised_last"], seconds)


def _spread(values: list[float]) -> str:
    """Return mean and range."""
    return f"{mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
