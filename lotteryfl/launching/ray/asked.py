"""What a launch asks of Ray: how many workers, and what each of them needs; knows no Ray."""

from collections.abc import Sequence
from typing import NamedTuple

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.settings import LaunchSettings

_GIB = 2**30
_CPU = "cpu"
_ALL = "all"


class Needs(NamedTuple):
    """What Ray sets aside for an actor."""

    cpus: float
    cards: float
    memory: int
    """Bytes; 0: none is asked for."""
    others: dict[str, float]

    @property
    def resources(self) -> dict[str, float]:
        """By Ray's names."""
        memory = {"memory": float(self.memory)} if self.memory else {}
        wanted = {"CPU": self.cpus, "GPU": self.cards, **memory, **self.others}
        return {name: amount for name, amount in wanted.items() if amount}

    @property
    def device(self) -> str:
        """As `work --device` takes it: Ray shows an actor its own card alone."""
        return "auto" if self.cards else _CPU

    def are_had_by(self, node: dict[str, float]) -> bool:
        """Tell whether a node could ever give so much."""
        return all(node.get(name, 0) >= amount for name, amount in self.resources.items())

    def options(self) -> dict[str, object]:
        """As an actor's options have it."""
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.cards,
            **({"memory": self.memory} if self.memory else {}),
            "resources": self.others,
        }

    def __str__(self) -> str:
        """Say it for people."""
        told = {**self.resources, "GiB memory": self.resources.get("memory", 0) / _GIB}
        return ", ".join(f"{told[name]:g} {name}" for name in told if told[name] and name != "memory") or "nothing"


def check(settings: LaunchSettings) -> None:
    """Check what the settings say for all kinds of places, and Ray does in its own way.

    Raises:
        LotteryFLError: naming the key, its value and what was expected.
    """
    default, ray = LaunchSettings(), settings.ray
    for key in ("program", "setup"):
        if (value := getattr(settings, key)) != getattr(default, key):
            raise LotteryFLError(
                f"{key} = {value!r}: Ray starts what is installed beside it on the nodes: expected none"
            )
    if settings.devices not in (_ALL, _CPU):
        raise LotteryFLError(f"devices = {settings.devices!r}: Ray hands cards out: expected {_ALL} or {_CPU}")
    if settings.workers_per_device == "auto":
        raise LotteryFLError("workers_per_device = 'auto': Ray has to know their share of a card: expected a number")
    if ray.num_gpus is not None and settings.workers_per_device != 1:
        raise LotteryFLError(
            f"ray.num_gpus = {ray.num_gpus:g} and workers_per_device = {settings.workers_per_device}: "
            "expected one of the two to say how many share a card"
        )
    if ray.num_gpus and settings.devices == _CPU:
        raise LotteryFLError(f"ray.num_gpus = {ray.num_gpus:g}: expected 0 with devices = {_CPU!r}")
    if ray.placement_group and not (ray.num_cpus or ray.num_gpus or ray.memory or ray.resources):
        raise LotteryFLError(f"ray.placement_group = {ray.placement_group!r}: expected workers that need something")


def needs(settings: LaunchSettings, cards: float) -> Needs:
    """Return what each worker needs.

    Args:
        settings: of the launch, checked.
        cards: how many the cluster has.
    """
    ray = settings.ray
    share = ray.num_gpus
    if share is None:
        share = 1 / _a_device(settings) if cards and settings.devices == _ALL else 0
    return Needs(ray.num_cpus, share, int(ray.memory * _GIB), ray.resources)


def workers(settings: LaunchSettings, each: Needs, nodes: Sequence[dict[str, float]]) -> int:
    """Return how many workers there are to be.

    Args:
        settings: of the launch, checked.
        each: what each of them needs.
        nodes: what every node has, by Ray's names of it.
    """
    if settings.ray.workers is not None:
        return settings.ray.workers
    able = [node for node in nodes if each.are_had_by(node)]
    if each.cards:
        return max(1, sum(int(node["GPU"] / each.cards) for node in able))
    return max(1, len(able) * _a_device(settings))


def _a_device(settings: LaunchSettings) -> int:
    return settings.workers_per_device if isinstance(settings.workers_per_device, int) else 1
