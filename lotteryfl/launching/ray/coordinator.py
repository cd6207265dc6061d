"""A launch's coordinator, here or in an actor: how it is called, started, asked, and ended. All of it blocks."""

import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, NamedTuple

from lotteryfl.common.commandline import given
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import load, to_toml
from lotteryfl.common.security.tls import ChannelSecurity, TLSFiles
from lotteryfl.launching.launcher import Looking, Request, Stage, Standing
from lotteryfl.launching.ports import free_port, listens
from lotteryfl.launching.ray import node as on_node
from lotteryfl.launching.ray.actor import Orders
from lotteryfl.launching.ray.asked import Needs
from lotteryfl.launching.ray.child import Handed
from lotteryfl.launching.ray.cluster import CLIENT, Cluster, Node, there
from lotteryfl.launching.ray.here import ProcessHere
from lotteryfl.launching.ray.workers import Actors
from lotteryfl.server.store.findruns import is_run

NAME = "coordinator"
"""Of its actor, of its log, and in its certificate."""

_PORT = "ray.port"
"""By which setting people say where it listens."""

_ANYWHERE = "0.0.0.0"  # noqa: S104 - callers show certificates


class Place(NamedTuple):
    """Where a coordinator is."""

    host: str
    """Name or address by which workers reach it."""
    port: int
    node: str = ""
    """The id of its node; '': it is no actor."""

    @property
    def address(self) -> str:
        """As callers have it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def record(self) -> tuple[str, ...]:
        """Return it as it is put on record."""
        return (self.host, str(self.port), self.node)

    @classmethod
    def of_record(cls, record: tuple[str, ...]) -> "Place":
        """Return what was put on record."""
        host, port, node = record
        return cls(host, int(port), node)


class Coordinator(ABC):
    """Of one launch."""

    is_actor: ClassVar[bool]

    def __init__(self, request: Request, cluster: Cluster, actors: Actors) -> None:
        """Set of which.

        Args:
            request: what is launched.
            cluster: where, connected before it is needed.
            actors: of the launch.
        """
        self._request = request
        self._cluster = cluster
        self._actors = actors

    def needs(self) -> tuple[Needs, ...]:
        """Return what it needs of Ray, if anything."""
        return ()

    @abstractmethod
    def placed(self, nodes: list[Node]) -> Place:
        """Find where it will be."""

    @abstractmethod
    def arguments(self, place: Place) -> list[str]:
        """Return what the program is told, all but its certificate."""

    @abstractmethod
    def start(self, place: Place, tls: TLSFiles) -> None:
        """Start it."""

    @abstractmethod
    def listens(self, place: Place) -> bool:
        """Tell whether callers are answered."""

    @abstractmethod
    def standing(self) -> Standing:
        """Return where it stands."""

    @abstractmethod
    def looking(self, place: Place, observer: TLSFiles) -> Looking:
        """Return where its run is looked at."""

    @abstractmethod
    def end(self) -> None:
        """End it, if it is there."""


class CoordinatorHere(Coordinator):
    """A process of this machine, which outlives the command that has started it."""

    is_actor: ClassVar[bool] = False

    def placed(self, nodes: list[Node]) -> Place:
        """Return the address of this machine that faces the cluster, and a free port."""
        ray = self._request.settings.ray
        return Place(ray.host or _facing(_host_of(ray.address, nodes)), ray.port or free_port(_PORT))

    def arguments(self, place: Place) -> list[str]:
        """Return what the program is told, all but its certificate."""
        return ["serve", *self._request.serve_arguments, f"--listen={_ANYWHERE}:{place.port}"]

    def start(self, place: Place, tls: TLSFiles) -> None:
        """Start it."""
        self._process.start([*self.arguments(place), *tls.options()])

    def listens(self, place: Place) -> bool:
        """Tell whether callers are answered."""
        return listens(place.port)

    def standing(self) -> Standing:
        """Return where it stands; once it has ended, by what its run directory and its log say."""
        if self._process.is_alive:
            return Standing(Stage.RUNNING)
        if _has_finished(self._request.run_dir):
            return Standing(Stage.ENDED)
        return Standing(Stage.ENDED, f"coordinator: {self._process.reason()}", 1)

    def looking(self, place: Place, observer: TLSFiles) -> Looking:  # noqa: ARG002 - the other kind needs them
        """Return the run directory."""
        return Looking(str(self._request.run_dir))

    def end(self) -> None:
        """End it, if it is there."""
        self._process.end()

    @property
    def _process(self) -> ProcessHere:
        folder = self._request.folder
        return ProcessHere(folder.path / "coordinator.lock", folder.logs / f"{NAME}.log")


class ActorCoordinator(Coordinator):
    """A detached actor on one node, on whose disk the run is: Ray starts it again there alone."""

    is_actor: ClassVar[bool] = True

    def needs(self) -> tuple[Needs, ...]:
        """Return what it needs of Ray."""
        ray = self._request.settings.ray
        return (Needs(ray.coordinator_cpus, 0, 0, ray.coordinator_resources),)

    def placed(self, nodes: list[Node]) -> Place:
        """Choose its node: the first that has what it needs, and that is the head if it can be; and a port there.

        Raises:
            LotteryFLError: no node has what it needs.
        """
        ray, (needs,) = self._request.settings.ray, self.needs()
        able = [each for each in nodes if needs.are_had_by(each.resources)]
        if not able:
            raise LotteryFLError(f"the coordinator's actor needs {needs}: no node has that")
        node = able[0]
        port = ray.port or self._cluster.on(node, free_port, _PORT)
        return Place(ray.host or node.address, port, node.id)

    def arguments(self, place: Place) -> list[str]:
        """Return what the program is told, all but its certificate, and an experiment's text."""
        request = self._request
        if request.source.is_dir():
            what = [str(request.source), *given(set=request.overrides)]
        else:
            what = given(run_dir=request.run_dir)
        return ["serve", *what, *request.own.options, f"--listen={_ANYWHERE}:{place.port}"]

    def start(self, place: Place, tls: TLSFiles) -> None:
        """Have Ray start it."""
        request = self._request
        ray = request.settings.ray
        experiment = () if request.source.is_dir() else (Handed("", _text(request)),)
        orders = Orders(
            NAME,
            self._cluster.namespace,
            tuple(self.arguments(place)),
            (*experiment, *handed(tls)),
            request.settings.environment,
            "" if ray.any_version else on_node.version(),
            stays=True,
            port=place.port,
        )
        node = next(node for node in self._cluster.nodes() if node.id == place.node)
        (needs,) = self.needs()
        options = {**needs.options(), "max_restarts": ray.max_restarts, "scheduling_strategy": there(node)}
        self._actors.start(orders, options)

    def listens(self, place: Place) -> bool:  # noqa: ARG002 - the other kind needs it
        """Tell whether callers are answered."""
        told = self._actors.seen([NAME])[NAME].told
        return told is not None and told.listens

    def standing(self) -> Standing:
        """Return where it stands."""
        seen = self._actors.seen([NAME])[NAME]
        if seen.is_gone:
            return Standing(Stage.ENDED, f"the coordinator's actor is gone: {seen.why}", 1)
        if seen.told is None:
            return Standing(Stage.WAITING, "Ray has not started the coordinator's actor")
        if seen.told.code is None:
            return Standing(Stage.RUNNING)
        return Standing(Stage.ENDED, seen.told.last_line, seen.told.code)

    def looking(self, place: Place, observer: TLSFiles) -> Looking:
        """Return its address."""
        return Looking(place.address, ChannelSecurity(observer))

    def end(self) -> None:
        """End it, if it is there."""
        self._actors.end([NAME])


def coordinator_of(request: Request, cluster: Cluster, actors: Actors) -> Coordinator:
    """Return the kind of coordinator that the settings want."""
    kind = ActorCoordinator if request.settings.ray.coordinator == "actor" else CoordinatorHere
    return kind(request, cluster, actors)


def handed(tls: TLSFiles) -> tuple[Handed, ...]:
    """Return a certificate's files as a child is handed them."""
    files = (("--tls-cert", tls.cert), ("--tls-key", tls.key), ("--tls-ca", tls.ca))
    return tuple(Handed(option, file.read_bytes()) for option, file in files if file is not None)


def _text(request: Request) -> bytes:
    """Return an experiment whole, with its overrides, and what it names on the disk by absolute paths."""
    return to_toml(load(request.source, request.overrides)).encode()


def _has_finished(run_dir: Path) -> bool:
    from lotteryfl.protos import lotteryfl_pb2 as pb
    from lotteryfl.seeing.directory import DirectorySource

    return is_run(run_dir) and DirectorySource(run_dir).status().state == pb.RunStatus.FINISHED


def _host_of(address: str, nodes: list[Node]) -> str:
    """Return a host of the cluster's: the one that is called from elsewhere, or its head."""
    if address.startswith(CLIENT):
        return address.removeprefix(CLIENT).rpartition(":")[0].strip("[]") or nodes[0].address
    return nodes[0].address


def _facing(host: str) -> str:
    """Return the address of this machine from which a host is called; nothing is sent."""
    family, kind, protocol, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])
