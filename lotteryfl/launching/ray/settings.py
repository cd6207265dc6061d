"""What `[launch.ray]` says: which cluster, what each worker has of it, and where the coordinator runs."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lotteryfl.common.section import Count, Section

_OWN_WORDS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
"""What Ray has other words for than its resources' names."""

_Amount = Annotated[float, Field(ge=0)]


def _resources(resources: dict[str, float]) -> dict[str, float]:
    for name, amount in resources.items():
        if name in _OWN_WORDS:
            raise ValueError(f"ray.resources.{name} = {amount:g}: is what ray.{_OWN_WORDS[name]} says")
        if amount <= 0 or (amount > 1 and amount != int(amount)):
            raise ValueError(f"ray.resources.{name} = {amount:g}: expected a fraction of 1, or a whole number")
    return resources


def _cards(number: float | None) -> float | None:
    if number is not None and number > 1:
        raise ValueError(f"ray.num_gpus = {number:g}: a worker computes on one card: expected 1, or a fraction of it")
    return number


def _restarts(number: int) -> int:
    if number < -1:
        raise ValueError(f"ray.max_restarts = {number}: expected a number from 0 on, or -1 for any number")
    return number


_Resources = Annotated[dict[str, float], AfterValidator(_resources)]


class RaySettings(Section):
    """Which cluster, and what is asked of it."""

    address: Annotated[str, Field(min_length=1)] = "auto"
    """As `ray.init` takes it: auto for the cluster of this machine, HOST:PORT, or ray://HOST:PORT from elsewhere."""
    workers: Count | None = None
    """How many there are to be; None: `workers_per_device` on every card, or on every node where there is none."""
    num_cpus: _Amount = 1
    """What Ray sets aside for each of them."""
    num_gpus: Annotated[_Amount | None, AfterValidator(_cards)] = None
    """Share of a card for each; None: what `workers_per_device` comes to, and 0 where the cluster has no card."""
    memory: _Amount = 0
    """GiB for each, which is also all that it takes on; 0: Ray asks for none, and it takes what `work` takes."""
    resources: _Resources = Field(default_factory=dict)
    """What else a node must have for each, by Ray's names of it."""
    placement_group: Literal["", "PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = ""
    """How they are placed if they are to begin together; '': each as soon as there is room for it, spread."""
    max_restarts: Annotated[int, AfterValidator(_restarts)] = 10
    """How often Ray starts one again that has died; -1: always."""
    coordinator: Literal["here", "actor"] = "here"
    """Where it runs: on this machine, or as a detached actor on a node, with the run directory on that node's disk."""
    coordinator_cpus: _Amount = 1
    """What Ray sets aside for it, where it is an actor."""
    coordinator_resources: _Resources = Field(default_factory=dict)
    """What else its node must have, likewise."""
    host: str = ""
    """Name or address by which workers reach the coordinator; '': its machine's, as Ray has it."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where it listens; 0: at one that is free."""
    any_version: bool = False
    """Nodes may have another version of the program than this machine, as long as it speaks the same protocol."""
