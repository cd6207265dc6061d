"""Launches a run on a Ray cluster: workers as detached actors, and the coordinator here or as one more of them."""

import asyncio
import json
import secrets
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar, TypeVar

from lotteryfl.common.disk.privatefiles import private
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.launcher import Launcher, Looking, Stage, Standing
from lotteryfl.launching.ray import asked, node
from lotteryfl.launching.ray.bringing import bring
from lotteryfl.launching.ray.cluster import Cluster, Node, require_extra
from lotteryfl.launching.ray.coordinator import NAME, Coordinator, Place, coordinator_of
from lotteryfl.launching.ray.fleet import CERTIFICATE, Fleet
from lotteryfl.launching.ray.workers import Actors

T = TypeVar("T")

_PAUSE_SECONDS = 0.3
_LAUNCH, _PLACE, _WORKERS = "launch", "coordinator", "workers"
"""Under which words the folder has what was started: its namespace, where the coordinator is, the workers' names."""


class RayLauncher(Launcher):
    """Everything that it starts is found again by the names that its folder has on record."""

    kind: ClassVar[str] = "ray"

    def check(self) -> None:
        """Check that Ray is installed, and that the settings fit together."""
        require_extra()
        asked.check(self.request.settings)

    def rendered(self) -> dict[str, str]:
        """Return what Ray is asked for, and what the processes are told."""
        ray = self.request.settings.ray
        place = Place(ray.host or "HOST", ray.port)
        serving = {"runs": ray.coordinator, "program": ["lotteryfl", *self._coordinator.arguments(place)]}
        found = {"coordinator": serving, "workers": self._fleet.rendered(place)}
        return {name: json.dumps(what, indent=2, ensure_ascii=False) for name, what in found.items()}

    async def up(self) -> None:
        """Start the coordinator, and have Ray start the workers as soon as there is room for them."""
        folder = self.request.folder
        folder.note(_LAUNCH, (f"lotteryfl-{secrets.token_hex(6)}",))
        await _step(self._cluster.connect)
        nodes = await _step(self._checked_nodes)
        place = await _step(lambda: self._coordinator.placed(nodes))
        await _step(lambda: folder.make_certificates([place.host], [CERTIFICATE]))
        folder.note(_PLACE, place.record())
        await _step(lambda: self._coordinator.start(place, folder.certificate(NAME)))
        await self._until_it_listens(place)
        workers = self._fleet.planned(nodes)
        folder.note(_WORKERS, workers)
        await _step(lambda: self._fleet.start(workers, nodes, place, folder.certificate(CERTIFICATE)))

    async def standing(self) -> Standing:
        """Return where the coordinator stands; where no worker is left, that is the launch's end, too."""
        await _step(self._cluster.connect)
        standing = await _step(self._coordinator.standing)
        if standing.stage is Stage.ENDED:
            return standing
        nothing_left = await _step(lambda: self._fleet.look(self.request.folder.started(_WORKERS)))
        return Standing(Stage.ENDED, nothing_left, 1) if nothing_left else standing

    def looking(self) -> Looking:
        """Return the run directory, or the address of the coordinator's actor."""
        return self._coordinator.looking(self._place, self.request.folder.certificate("observer"))

    async def bring_back(self) -> None:
        """Bring the run directory from the node of the coordinator's actor."""
        if self._coordinator.is_actor:
            await _step(self._bring)

    async def down(self) -> None:
        """End the workers, which hand back what they have, then the coordinator; gather the logs."""
        folder = self.request.folder
        if not folder.started(_LAUNCH):
            return
        try:
            await _step(self._cluster.connect)
            await _step(lambda: self._fleet.end(folder.started(_WORKERS)))
        finally:
            if self._cluster.is_connected or not self._coordinator.is_actor:
                await _step(self._coordinator.end)
        await _step(self._gather_logs)

    # -- what it stands on

    @cached_property
    def _cluster(self) -> Cluster:
        folder = self.request.folder
        launch = folder.started(_LAUNCH) if folder.is_up else ()  # of what is only rendered there is none
        return Cluster(self.request.settings.ray.address, launch[0] if launch else "", folder.path)

    @cached_property
    def _actors(self) -> Actors:
        return Actors(self._cluster.namespace)

    @cached_property
    def _coordinator(self) -> Coordinator:
        return coordinator_of(self.request, self._cluster, self._actors)

    @cached_property
    def _fleet(self) -> Fleet:
        return Fleet(self.request, self._cluster, self._actors, self.note)

    @property
    def _place(self) -> Place:
        return Place.of_record(self.request.folder.started(_PLACE))

    # -- steps

    def _checked_nodes(self) -> list[Node]:
        """Return the nodes, once all on which something may be started have the program in this version.

        Raises:
            LotteryFLError: it is not installed on one, or in another version.
        """
        nodes = self._cluster.nodes()
        needs = (self._fleet.needs(nodes), *self._coordinator.needs())
        able = [each for each in nodes if any(need.are_had_by(each.resources) for need in needs)]
        for each, found in self._cluster.on_each(able, node.version).items():
            if isinstance(found, LotteryFLError):
                raise found
            if found != node.version() and not self.request.settings.ray.any_version:
                raise LotteryFLError(
                    f"node {each.address}: has lotteryfl {found}: expected {node.version()}, as here, or "
                    "ray.any_version = true"
                )
        return nodes

    async def _until_it_listens(self, place: Place) -> None:
        """Wait for the coordinator, which has much to import, and whose actor may have to wait for room."""
        news = ""
        while not await _step(lambda: self._coordinator.listens(place)):
            standing = await _step(self._coordinator.standing)
            if standing.stage is Stage.ENDED:
                raise LotteryFLError(standing.why or "the run has finished already")
            if standing.why not in ("", news):
                news = standing.why
                self.note(news)
            await asyncio.sleep(_PAUSE_SECONDS)

    def _bring(self) -> None:
        place = self._place
        nodes = [each for each in self._cluster.nodes() if each.id == place.node]
        if not nodes:
            raise LotteryFLError(f"node {place.host}: is gone, and the run directory with it")
        bring(self._cluster, nodes[0], self.request.run_dir, self.request.run_dir, self.note)

    def _gather_logs(self) -> None:
        """Bring the logs of all nodes that are there, and remove them there."""
        logs, launch, nodes = self.request.folder.logs, self._cluster.namespace, self._cluster.nodes()
        for found in self._cluster.on_each(nodes, node.logs, launch).values():
            if isinstance(found, LotteryFLError):
                self.note(f"{found}: its logs are left there")
                continue
            for name, content in found.items():
                with open(logs / Path(name).name, "wb", opener=private) as file:
                    file.write(content)
        self._cluster.on_each(nodes, node.remove_logs, launch)


async def _step(work: Callable[[], T]) -> T:
    """Run what blocks on a thread, and to its end, even when it is interrupted: what it starts is on record."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
