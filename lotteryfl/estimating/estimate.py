"""What a run will take, line by line, and what each line takes for granted."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from lotteryfl.estimating.course import Course, course
from lotteryfl.estimating.measure import Measured
from lotteryfl.estimating.sizes import Sizes

_ROW_BYTES = 800
"""Of run.db for each assignment, with its result and what was measured: 796 between runs of 260 and of 620 of them."""

_LOG_BYTES = 4 * 2**20
"""What SQLite's write-ahead log comes to before it is written into run.db."""

Unit = Literal["bytes", "seconds"]


@dataclass(frozen=True)
class Line:
    """One thing that a run takes."""

    what: str
    unit: Unit
    least: float
    most: float
    assumes: str
    """What is taken for granted."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take."""

    workers: int
    measured: str
    """What was really done."""
    lines: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for `json.dumps`."""
        return asdict(self)


def estimate(measured: Measured, workers: int, cores: int, device: torch.device) -> Estimate:
    """Return what the run will take whose assignment was measured.

    Args:
        measured: what was really done.
        workers: how many processes are to do the rest.
        cores: that they share.
        device: where they work.

    Raises:
        ExperimentError: the strategy's answers cannot be used.
    """
    sizes = Sizes(measured.run)
    courses = [course(measured, sizes, workers, prunes=prunes) for prunes in (True, False)]
    lines = (
        *_traffic(courses, workers),
        *_disk(measured, courses),
        *_memory(measured),
        *_time(measured, courses, workers, cores, device),
    )
    return Estimate(workers, _told(measured), tuple(lines))


def _told(measured: Measured) -> str:
    return (
        f"client {measured.client} in round 1, {measured.examples} training examples: {measured.seconds:.2f} s, "
        f"density {measured.density_before:.3g} to {measured.density_after:.3g}"
    )


def _line(what: str, unit: Unit, values: Sequence[float], assumes: str) -> Line:
    return Line(what, unit, min(values), max(values), assumes)


def _traffic(courses: list[Course], workers: int) -> list[Line]:
    soonest, never = courses
    ends = (
        f"density {soonest.density:.3g} at the end where every client prunes whenever its plan lets it, "
        f"{never.density:.3g} where none is ever good enough"
    )
    if soonest.density == never.density:
        ends = f"density {soonest.density:.3g} at the end, as the strategy's plans have it"
    return [
        _line(
            "bytes down",
            "bytes",
            [each.bytes_down for each in courses],
            f"{ends}; {workers} workers, each in every round",
        ),
        _line(
            "  a machine for each client", "bytes", [each.bytes_down_apart for each in courses], "as simulate counts"
        ),
        _line("bytes up", "bytes", [each.bytes_up for each in courses], "no client sits out, no result is sent twice"),
    ]


def _disk(measured: Measured, courses: list[Course]) -> list[Line]:
    initial = measured.run.model_path(0).stat().st_size
    kept = _kept(measured)
    at_end = initial + measured.optimizer + (1 + kept) * measured.model
    database = [measured.database + _ROW_BYTES * each.assignments for each in courses]
    ends = [at_end + base + each.files_at_end for base, each in zip(database, courses, strict=True)]
    peaks = [
        at_end + measured.model + measured.optimizer + base + _LOG_BYTES + each.files_at_peak
        for base, each in zip(database, courses, strict=True)
    ]
    return [
        _line(
            "disk at its peak", "bytes", peaks, "a round's results lie beside the tickets that they replace; logs apart"
        ),
        _line(
            "disk at the end",
            "bytes",
            ends,
            f"θ_0, {1 + kept} global models, every ticket and mask, {_ROW_BYTES} bytes of run.db an assignment",
        ),
    ]


def _kept(measured: Measured) -> int:
    """Return how many global models stay beside the newest."""
    experiment = measured.run.experiment
    rounds = filter(experiment.evaluation.keeps, range(1, experiment.rounds))
    return sum(map(measured.strategy.trains, rounds)) + experiment.evaluation.keeps_best


def _memory(measured: Measured) -> list[Line]:
    table = measured.run.model_table
    largest = max((spec.nbytes for spec in table), default=0)
    coordinator = measured.coordinator + largest
    need = measured.need
    beside = need.next_host.nbytes if need else 0
    lines = [
        _line(
            "memory of the coordinator", "bytes", [coordinator], "as setting the run up took here, and a tensor more"
        ),
        _line(
            "memory of a worker",
            "bytes",
            [measured.worker.host, measured.worker.host + beside],
            "as the assignment took here; at most the next one beside it",
        ),
    ]
    if measured.worker.held:
        held = measured.worker.held
        after = held + (need.next_device.nbytes if need else 0)
        lines.append(_line("  of its device", "bytes", [held, after], "as torch held for the assignment here"))
    return lines


def _time(measured: Measured, courses: list[Course], workers: int, cores: int, device: torch.device) -> list[Line]:
    threads = measured.run.experiment.training.threads
    crowd = max(1.0, workers * threads / cores) if device.type == "cpu" else 1.0
    totals = []
    for each in courses:
        start = measured.starting * (1 + max(1.0, workers / cores))
        turns = sum(math.ceil(clients / workers) for clients in each.clients_of_rounds)
        concluded = sum(each.clients_of_rounds[:-1]) * measured.concluding
        totals.append(start + turns * measured.seconds * crowd + concluded)
    shared = (
        f"{workers} workers at {threads} threads on {cores} cores"
        if device.type == "cpu"
        else f"{workers} workers, each as fast as one"
    )
    return [
        _line(
            f"time with {workers} workers",
            "seconds",
            totals,
            f"every assignment takes what was measured; {shared}; no waiting, no network",
        )
    ]
