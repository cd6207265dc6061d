"""Metrics as they are described, and their numbers at a moment as prometheus-client takes them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from lotteryfl.common.telemetry.stages import Passed

_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "summary": SummaryMetricFamily}


class Described(NamedTuple):
    """One metric."""

    name: str
    """As in a query; of a summary or histogram, what comes before _count."""
    kind: Literal["counter", "gauge", "histogram", "summary"]
    since: Literal["run", "process", "now"]
    """From when it counts: a run's beginning, by its directory; the process's; or it is how things stand."""
    text: str
    label: str = ""
    values: tuple[str, ...] = ()
    """All values that the label may have: no more series can come of it."""

    @property
    def samples(self) -> frozenset[str]:
        """The names of its samples."""
        if self.kind not in ("histogram", "summary"):
            return frozenset((self.name,))
        ends = ("_bucket", "_count", "_sum") if self.kind == "histogram" else ("_count", "_sum")
        return frozenset(f"{self.name}{end}" for end in ends)


class Numbers:
    """What the metrics of a table are at a moment; one without a number is left out."""

    def __init__(self, table: Sequence[Described]) -> None:
        """Begin without any.

        Args:
            table: the metrics that there may be.
        """
        self._described = {each.name: each for each in table}
        self._families: dict[str, Any] = {}  # whose add_metric differ

    def put(self, name: str, value: float) -> None:
        """Set a metric without a label."""
        self._family(name).add_metric([], value)

    def put_by_label(self, name: str, values: Mapping[str, float]) -> None:
        """Set a metric by its label; what is not among the values is 0."""
        family = self._family(name)
        for label in self._described[name].values:
            family.add_metric([label], values.get(label, 0))

    def put_stages(self, name: str, passed: Mapping[str, Passed]) -> None:
        """Set a summary by its stages."""
        family = self._family(name)
        for stage in self._described[name].values:
            found = passed.get(stage, Passed())
            family.add_metric([stage], found.times, found.seconds)

    def put_histogram(self, name: str, buckets: Sequence[tuple[str, float]], seconds: float) -> None:
        """Set a histogram.

        Args:
            name: of the metric.
            buckets: how many are no longer than each bound, the last of which is +Inf.
            seconds: the sum of all.
        """
        described = self._described[name]
        self._families[name] = HistogramMetricFamily(name, described.text, buckets=buckets, sum_value=seconds)

    def put_info(self, name: str, **labels: str) -> None:
        """Set a gauge of 1, whose labels are what it says."""
        family = GaugeMetricFamily(name, self._described[name].text, labels=list(labels))
        family.add_metric(list(labels.values()), 1)
        self._families[name] = family

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())

    def _family(self, name: str) -> Any:
        described = self._described[name]
        labels = [described.label] if described.label else []
        family = _FAMILIES[described.kind](name, described.text, labels=labels)
        self._families[name] = family
        return family
