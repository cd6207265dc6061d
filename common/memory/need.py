"""How much memory a worker's work takes at its peak, by part, from what is known before it begins.

Of the model's tensors, of the steps of a training and of what travels; beside it come the program itself and the data.
`docs/reliability.md` has it beside what was measured.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import sqrt

from rich.filesize import decimal

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.memory.bounds import Bound
from lotteryfl.common.packedmasks import packed_size
from lotteryfl.common.positions import POSITION_BYTES
from lotteryfl.common.tasks.registry import BUILT_IN
from lotteryfl.common.training.recipe import SGD, TrainingSettings
from lotteryfl.common.wire.payload import max_payload_bytes
from lotteryfl.common.wire.table import TensorSpec, TensorTable

_STATES = 2
"""Tensors that an optimizer keeps for each parameter, as Adam does; those of torch keep no more, but with options."""

_DRAW_BYTES = 64
"""Of what a client draws from one pool of examples, while all is dealt; half of it stays. What is drawn is not kept."""

_MOST_CLASSES = 100
"""Of the built-in data sets."""

_INDEX_BYTES = 4
"""Of a position that a mask keeps."""

_GRADIENT_COPIES = 2
"""Of every example's gradient, while Opacus bounds and sums them."""

_FORWARD_COPIES = 3
"""Of a layer's input and output in an evaluation: in the order that its kernel likes, and what a branch still holds."""


@dataclass(frozen=True)
class Activations:
    """Bytes that go through a model for each example, and of how many examples at a time."""

    kept: int = 0
    """Outputs of all layers, which a backward needs."""
    widest: int = 0
    """Input and output of the layer where these are most."""
    evaluated: int = 0
    """Examples in the largest batch of an evaluation."""


@dataclass(frozen=True)
class Need:
    """Bytes at the peak, by part."""

    parts: Counter[str] = field(default_factory=Counter)

    @property
    def nbytes(self) -> int:
        """All together."""
        return self.parts.total()

    def __str__(self) -> str:
        """Name all parts, the largest first."""
        return ", ".join(f"{name} {decimal(size)}" for name, size in self.parts.most_common() if size)


@dataclass(frozen=True)
class WorkerNeed:
    """What a worker takes of its machine's memory and of its device's."""

    host: Need
    device: Need
    """Empty where the device works in the host's."""
    next_host: Need = Need()
    """What the assignment takes beside it that comes, or goes, while one is worked on."""
    next_device: Need = Need()
    """The same, of the device."""

    def with_next(self) -> "WorkerNeed":
        """Return what it takes with the assignment beside it."""
        host, device = self.host.parts + self.next_host.parts, self.device.parts + self.next_device.parts
        return WorkerNeed(Need(host), Need(device))

    def __str__(self) -> str:
        """Say how much it is of what, by part."""
        needs = {"of the machine": self.host, "of the device": self.device}
        return ", ".join(f"{decimal(need.nbytes)} {where} ({need})" for where, need in needs.items() if need.nbytes)

    def excess(self, host: Bound, device: Bound | None, whose: str) -> str:
        """Say in one line what is more than there is, by part, and where the bound comes from; '': nothing is.

        Args:
            host: what may be taken of the machine's memory.
            device: what is free on the device, where it has memory of its own.
            whose: who works there, and what it does, as "this worker takes on".
        """
        for need, bound in ((self.host, host), (self.device, device)):
            if bound is not None and need.nbytes > bound.nbytes:
                return f"{decimal(need.nbytes)}, and {whose} {bound}: {need}"
        return ""


def worker_need(
    table: TensorTable,
    experiment: Experiment,
    *,
    own_memory: bool = False,
    activations: Activations = Activations(),
) -> WorkerNeed:
    """Return what one assignment after the other takes of a worker.

    Args:
        table: of the model and its strategy.
        experiment: how it trains, and how the data is dealt out.
        own_memory: the device has memory of its own, as a GPU.
        activations: of the model, where they are known.
    """
    largest, lasting = max_payload_bytes(table.moving), table.lasting
    added, table = sum(spec.nbytes for spec in table.added), table.model
    whole, rows = table.nbytes, max(1, experiment.engine.stacked)
    # θ_0; the copy that no work is done with; the model that all clients of a round start from.
    host = Counter(
        {
            "θ_0": lasting.nbytes,
            "pristine copy": whole,
            "round's model": lasting.moving.nbytes,
            "index lists": _index_lists(experiment),
            "positions": min(POSITION_BYTES, sum(map(_position_bytes, table))),
        }
    )
    result = Counter({"payload": rows * largest})
    device = Counter({"model": rows * whole, "masks": rows * sum(spec.nbytes for spec in table if spec.prunable)})
    if added:
        device["strategy's tensors"] = added
    if experiment.privacy.clip_norm:
        device["start"] = rows * sum(spec.nbytes for spec in table if spec.dtype.is_floating_point)
    training, evaluation = _training(table, experiment, activations), _evaluation(table, activations)
    beside = Counter({f"next {name}": size for name, size in device.items() if name != "start"})
    payload = Counter({"next payload": result.total()})
    if own_memory:
        work = Need(device + _larger(training, evaluation))
        return WorkerNeed(Need(host + result), work, Need(payload), Need(beside))
    # What is packed is there while the model is measured once more, and no gradients are any longer.
    work = Need(host + device + _larger(training, evaluation + result))
    return WorkerNeed(work, Need(), Need(beside + payload), Need())


def _position_bytes(spec: TensorSpec) -> int:
    """Return what a mask and the positions that it keeps take at most."""
    return packed_size(spec.numel) + _INDEX_BYTES * spec.numel if spec.prunable else 0


def _training(table: TensorTable, experiment: Experiment, activations: Activations) -> Counter[str]:
    """Return what a training holds beside the model."""
    settings = experiment.training
    parameters = sum(spec.nbytes for spec in table if spec.role == "parameter")
    batch, states = settings.batch_size, _states(settings)
    parts = Counter({"gradients": parameters, f"{settings.optimizer}'s state": states * parameters})
    parts["steps"] = (1 + states) * max((spec.nbytes for spec in table), default=0)
    if experiment.privacy.dp_sgd:
        batch += round(3 * sqrt(batch))  # drawn for every step
        parts["gradients of each example"] = _GRADIENT_COPIES * batch * parameters
    if experiment.strategy.name == "fedprox":
        parts["start"] = parameters
    parts["batch"] = batch * activations.kept
    if rows := experiment.engine.stacked:
        parts = Counter({name: rows * size for name, size in parts.items()})
        parts["stacked models"] = rows * table.nbytes
        parts["stacked masks"] = rows * sum(spec.nbytes for spec in table if spec.prunable)
    return parts


def _states(settings: TrainingSettings) -> int:
    return int(settings.momentum > 0) if settings.optimizer in SGD else _STATES


def _evaluation(table: TensorTable, activations: Activations) -> Counter[str]:
    """Return what an evaluation holds beside the model, or a pruning: then weights are products of them and masks."""
    products = sum(spec.nbytes for spec in table if spec.prunable)
    return Counter({"pruned weights": products, "batch": activations.evaluated * _FORWARD_COPIES * activations.widest})


def _larger(a: Counter[str], b: Counter[str]) -> Counter[str]:
    return max(a, b, key=Counter.total)


def _index_lists(experiment: Experiment) -> int:
    """Return the bytes of who holds which examples; a task of the user's own deals by itself."""
    if experiment.task.name not in BUILT_IN:
        return 0
    return experiment.clients * _DRAW_BYTES * _draws_of_a_client(experiment.partition)


def _draws_of_a_client(partition: PartitionSettings) -> int:
    """Return from how many pools a client draws, at most."""
    if partition.kind == "n-class":
        return partition.classes_per_client
    if partition.kind == "dirichlet":
        return max(1, min(partition.examples_per_client or _MOST_CLASSES, _MOST_CLASSES))
    return 1
