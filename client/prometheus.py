"""What Prometheus reads of a worker; docs/seeing.md has the same table."""

from collections.abc import Iterable
from contextlib import suppress

import torch
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from lotteryfl.client.counted import Counted
from lotteryfl.common.accelerators import device_memory
from lotteryfl.common.errors import DeviceGoneError
from lotteryfl.common.prometheus.build import BUILD, put_build
from lotteryfl.common.prometheus.described import Described, Numbers

METRICS = (
    BUILD,
    Described("lotteryfl_worker_info", "gauge", "now", "1; the device that it works on is its label."),
    Described("lotteryfl_worker_steps_total", "counter", "process", "Steps of training; of a stack one for all."),
    Described(
        "lotteryfl_worker_assignments_total",
        "counter",
        "process",
        "Assignments by what became of them.",
        "outcome",
        ("accepted", "duplicate", "stale", "refused", "handed_back", "lost"),
    ),
    Described(
        "lotteryfl_worker_stage_seconds",
        "summary",
        "process",
        "What the stages of assignments took; the next one arrives, and the last one goes, beside the one under work.",
        "stage",
        ("download", "decode", "evaluate", "train", "encode", "upload"),
    ),
    Described(
        "lotteryfl_worker_device_memory_bytes",
        "gauge",
        "now",
        "Of the device's own memory: what this worker's tensors take, what it holds for more, what nobody holds.",
        "part",
        ("used", "held", "free"),
    ),
    Described("lotteryfl_worker_device_memory_total_bytes", "gauge", "now", "How much own memory the device has."),
)
"""In the order in which they are documented."""


class WorkerCollector(Collector):
    """The metrics of one worker."""

    def __init__(self, counted: Counted, device: torch.device) -> None:
        """Set what is read.

        Args:
            counted: what the worker does.
            device: where it works.
        """
        self._counted = counted
        self._device = device

    def collect(self) -> Iterable[Metric]:
        """Return them as they are."""
        numbers = Numbers(METRICS)
        put_build(numbers)
        numbers.put_info("lotteryfl_worker_info", device=str(self._device))
        numbers.put("lotteryfl_worker_steps_total", self._counted.steps)
        numbers.put_by_label("lotteryfl_worker_assignments_total", self._counted.outcomes)
        numbers.put_stages("lotteryfl_worker_stage_seconds", self._counted.stages.passed())
        with suppress(DeviceGoneError):  # the rest is still to be told
            self._put_memory(numbers)
        return numbers

    def _put_memory(self, numbers: Numbers) -> None:
        if (memory := device_memory(self._device)) is not None:
            parts = {"used": memory.used, "held": memory.ours - memory.used, "free": memory.free}
            numbers.put_by_label("lotteryfl_worker_device_memory_bytes", parts)
            numbers.put("lotteryfl_worker_device_memory_total_bytes", memory.total)
