"""Reads a coordinator when Prometheus asks: nothing is counted for it that is on record, or at hand."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from lotteryfl.common.prometheus.build import put_build
from lotteryfl.common.prometheus.described import Numbers
from lotteryfl.common.telemetry.stages import Stages
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.prometheus.committed import CommittedRounds
from lotteryfl.server.prometheus.table import DEVICES, METRICS
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.rounds.told.tally import Tally
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.summaries import scores_of

_FRESH_SECONDS = 1.0
"""For which what was read is said again: who asks more often takes no more of the coordinator's time."""


class CoordinatorCollector(Collector):
    """The metrics of one run; one thread at a time asks for them."""

    def __init__(
        self,
        run: RunDirectory,
        coordinator: Coordinator,
        stages: Stages,
        ask: Callable[[Callable[[], Numbers]], Numbers],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            run: the open run directory.
            coordinator: of the run.
            stages: what the end of rounds takes.
            ask: has a function called in the coordinator's thread, and returns what it returns.
            clock: seconds, from any start.
        """
        self._run = run
        self._coordinator = coordinator
        self._stages = stages
        self._ask = ask
        self._clock = clock
        self._committed = CommittedRounds(run.database)
        self._found: Numbers | None = None
        self._until = 0.0

    def collect(self) -> Iterable[Metric]:
        """Return them as they are, or were within the last second."""
        if self._found is None or self._clock() >= self._until:
            numbers = self._ask(self._read)
            self._put_disk(numbers)
            self._found, self._until = numbers, self._clock() + _FRESH_SECONDS
        return self._found

    def _read(self) -> Numbers:
        """Read all that is the coordinator's, in its thread."""
        tally, experiment = self._coordinator.tally(), self._run.experiment
        numbers = Numbers(METRICS)
        put_build(numbers)
        numbers.put_info("lotteryfl_run_info", strategy=experiment.strategy.name, score=self._run.score.name)
        numbers.put_by_label("lotteryfl_run_state", {tally.state: 1})
        numbers.put("lotteryfl_rounds_planned", experiment.rounds + 1)
        self._put_committed(numbers, tally)
        numbers.put("lotteryfl_round", tally.round)
        numbers.put("lotteryfl_round_retries", tally.retries)
        numbers.put_by_label("lotteryfl_round_assignments", {str(key): each for key, each in tally.assignments.items()})
        _put_happened(numbers, tally)
        numbers.put_by_label("lotteryfl_traffic_bytes_total", {"down": tally.down, "up": tally.up})
        numbers.put_by_label("lotteryfl_workers", _by_known_kind(tally.devices))
        numbers.put("lotteryfl_workers_aside", tally.aside)
        numbers.put_stages("lotteryfl_round_stage_seconds", self._stages.passed())
        if tally.last is not None:
            self._put_last(numbers, tally.last)
        return numbers

    def _put_committed(self, numbers: Numbers, tally: Tally) -> None:
        committed = self._committed
        committed.read(tally.round)
        numbers.put("lotteryfl_rounds_committed_total", tally.committed)
        if committed.last_commit is not None:
            numbers.put("lotteryfl_last_commit_timestamp_seconds", committed.last_commit)
        numbers.put_histogram("lotteryfl_round_seconds", committed.buckets, committed.seconds)
        numbers.put("lotteryfl_results_accepted_total", committed.results + tally.assignments["done"])

    def _put_last(self, numbers: Numbers, last: pb.RoundSummary) -> None:
        numbers.put_by_label("lotteryfl_score", scores_of(last, self._run.score)._asdict())
        numbers.put("lotteryfl_density", last.density)
        if not self._run.experiment.privacy.hides_loss:
            numbers.put("lotteryfl_train_loss", last.train_loss)
        if last.HasField("epsilon"):
            numbers.put("lotteryfl_privacy_epsilon", last.epsilon)

    def _put_disk(self, numbers: Numbers) -> None:
        disk = shutil.disk_usage(self._run.path)
        numbers.put("lotteryfl_run_directory_free_bytes", disk.free)
        numbers.put("lotteryfl_run_directory_disk_bytes", disk.total)


def _put_happened(numbers: Numbers, tally: Tally) -> None:
    happened = {how.replace(" ", "_"): count for how, count in tally.happened.items()}
    numbers.put("lotteryfl_results_refused_total", tally.refused)
    numbers.put_by_label("lotteryfl_results_unwanted_total", happened)
    numbers.put("lotteryfl_leases_given_total", happened.get("given", 0))
    numbers.put_by_label("lotteryfl_leases_ended_total", happened)


def _by_known_kind(devices: Mapping[str, int]) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for kind, count in devices.items():
        found[kind if kind in DEVICES else "other"] += count
    return found
