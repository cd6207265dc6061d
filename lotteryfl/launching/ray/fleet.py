"""The workers of a launch: how many, where, what each is told, and what people are told of them. All of it blocks."""

import time
from collections.abc import Callable, Mapping, Sequence

from lotteryfl.common.commandline import given
from lotteryfl.common.security.tls import TLSFiles
from lotteryfl.common.text import brief
from lotteryfl.launching.launcher import Request
from lotteryfl.launching.ray import asked
from lotteryfl.launching.ray.actor import Orders
from lotteryfl.launching.ray.asked import Needs
from lotteryfl.launching.ray.cluster import Cluster, Node
from lotteryfl.launching.ray.coordinator import Place, handed
from lotteryfl.launching.ray.node import version
from lotteryfl.launching.ray.placing import make_group, remove_group
from lotteryfl.launching.ray.workers import Actors, Seen

CERTIFICATE = "ray"
"""The name in the certificate that all of them show; theirs are ray/1, ray/2, …"""

_SPREAD = "SPREAD"
"""Each as soon as there is room, on nodes that have none yet."""

_EVERY = 3.0
"""Seconds between two looks at them."""

_LATE_SECONDS = 30.0
"""For how long a coordinator may be without workers that were there: they hear of the run's end first."""


class Fleet:
    """All workers of one launch."""

    def __init__(self, request: Request, cluster: Cluster, actors: Actors, note: Callable[[str], None]) -> None:
        """Set of which.

        Args:
            request: what is launched.
            cluster: where.
            actors: of the launch.
            note: is told in a line what has become of one of them.
        """
        self._request = request
        self._cluster = cluster
        self._actors = actors
        self._note = note
        self._looked = 0.0
        self._running = 0
        self._over_since: float | None = None
        self._known: dict[str, str] = {}
        self._pids: dict[str, int] = {}
        self._gone: dict[str, float] = {}

    def needs(self, nodes: Sequence[Node]) -> Needs:
        """Return what each worker needs."""
        return asked.needs(self._request.settings, sum(node.resources.get("GPU", 0) for node in nodes))

    def planned(self, nodes: Sequence[Node]) -> tuple[str, ...]:
        """Return the names of all that there are to be."""
        each, had = self.needs(nodes), [node.resources for node in nodes]
        if not any(map(each.are_had_by, had)):
            self._note(f"each worker needs {each}, which no node has: Ray waits for one that has")
        count = asked.workers(self._request.settings, each, had)
        return tuple(f"worker-{number}" for number in range(1, count + 1))

    def start(self, names: Sequence[str], nodes: Sequence[Node], place: Place, tls: TLSFiles) -> None:
        """Have Ray start them as soon as there is room.

        Args:
            names: of all.
            nodes: of the cluster.
            place: of the coordinator.
            tls: the certificate that they show.
        """
        ray, each, launch = self._request.settings.ray, self.needs(nodes), self._cluster.namespace
        group = make_group(launch, ray.placement_group, each.resources, len(names)) if ray.placement_group else None
        for number, name in enumerate(names):
            orders = Orders(
                name,
                launch,
                tuple(self._arguments(number + 1, each, place)),
                handed(tls),
                self._request.settings.environment,
                "" if ray.any_version else version(),
            )
            where = group.place(number) if group else _SPREAD
            self._actors.start(
                orders, {**each.options(), "max_restarts": ray.max_restarts, "scheduling_strategy": where}
            )

    def look(self, names: Sequence[str]) -> str:
        """Tell what is new of them; return why none is left for the run, where that is so, else ''."""
        if time.monotonic() - self._looked < _EVERY:
            return ""
        self._looked = time.monotonic()
        seen = self._actors.seen(names)
        for name, each in seen.items():
            self._tell(name, each)
        running = sum(each.is_running for each in seen.values())
        if running > self._running:  # those that leave have their reasons
            self._note(f"{running} of {len(names)} workers run")
        self._running = running
        return self._none_left(seen)

    def end(self, names: Sequence[str]) -> None:
        """End them, and what holds their places."""
        self._actors.end(names)
        remove_group(self._cluster.namespace)

    def rendered(self, place: Place) -> dict[str, object]:
        """Return what Ray is asked for, as far as that is known without asking it."""
        settings = self._request.settings
        ray, each = settings.ray, asked.needs(settings, 1)
        depends = each.cards and ray.num_gpus is None
        number = settings.workers_per_device
        return {
            "address": ray.address,
            "workers": ray.workers or f"{number} on each card, or on each node where there is none",
            "each": {**each.options(), "num_gpus": f"{each.cards:g} where there are cards" if depends else each.cards},
            "placement_group": ray.placement_group,
            "max_restarts": ray.max_restarts,
            "program": ["lotteryfl", *self._arguments(1, each, place)],
            "environment": settings.environment,
        }

    def _arguments(self, number: int, each: Needs, place: Place) -> list[str]:
        return [
            "work",
            f"--coordinator={place.address}",
            f"--name={CERTIFICATE}/{number}",
            f"--device={each.device}",
            *given(max_memory=self._request.settings.ray.memory),
            *self._request.one_worker_arguments(),
        ]

    def _tell(self, name: str, seen: Seen) -> None:
        """Say once of a worker that it was started again, has ended by its own decision, or is not started any more."""
        news = ""
        if told := seen.told:
            if told.code is not None:
                news = f"{name} on {told.host} has ended: {told.last_line}"
            elif self._pids.setdefault(name, told.pid) != told.pid:
                news = f"{name} was started again by Ray, on {told.host} as process {told.pid}"
            self._pids[name] = told.pid
        elif seen.is_gone and time.monotonic() - self._gone.setdefault(name, time.monotonic()) > _LATE_SECONDS:
            news = f"{name} is gone, and Ray does not start it again: {seen.why}"
        if news not in ("", self._known.get(name)):
            self._known[name] = news
            self._note(news)

    def _none_left(self, seen: Mapping[str, Seen]) -> str:
        """Return why nobody works any more, and nobody is going to."""
        if not all(each.is_over for each in seen.values()):
            self._over_since = None
            return ""
        now = time.monotonic()
        self._over_since = self._over_since or now
        reasons = {name: each.told.last_line for name, each in seen.items() if each.told and each.told.code}
        if not reasons and now - self._over_since < _LATE_SECONDS:
            return ""
        why = [f"{name}: {reasons.get(name, each.why)}" for name, each in seen.items()]
        return f"no worker is left: {brief('; '.join(why))}"
