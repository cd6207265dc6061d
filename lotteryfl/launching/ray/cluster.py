"""A Ray cluster as a driver sees it: connected to, asked about its nodes, told to run what is installed there.

No code travels: Ray pickles functions and classes of installed packages by their names, no working directory is sent,
and the folder in which the driver stands, where Ray has the nodes look for modules, is one that has none.
"""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.text import brief

T = TypeVar("T")

CALL_SECONDS = 60.0
"""For a task on a node, which may have to start a process first."""

CLIENT = "ray://"
"""What an address begins with that is called from outside the cluster."""

_PROBE_SECONDS = 10.0
_HEAD = "node:__internal_head__"


@dataclass(frozen=True, eq=False)
class Node:
    """One of a cluster's nodes that are alive."""

    id: str
    address: str
    """As the others reach it."""
    resources: dict[str, float]
    """All that it has, by Ray's names."""

    @property
    def is_head(self) -> bool:
        """Whether it is the one without which there is no cluster."""
        return _HEAD in self.resources


def require_extra() -> None:
    """Check that Ray is installed.

    Raises:
        LotteryFLError: it is not.
    """
    if find_spec("ray") is None:
        raise LotteryFLError("ray is not installed: `launch ray` needs it: pip install 'lotteryfl[ray]'")


class Cluster:
    """A connection to a cluster, made when it is first needed. All of it blocks."""

    def __init__(self, address: str, namespace: str, stand: Path) -> None:
        """Set to which.

        Args:
            address: as `ray.init` takes it.
            namespace: in which names of actors are looked for.
            stand: a folder without modules, in which the driver stands while it connects.
        """
        self._address = address
        self.namespace = namespace
        """In which names of actors are looked for."""
        self._stand = stand

    @property
    def is_connected(self) -> bool:
        """Whether it can be asked: Ray itself would start a cluster of its own for who asks without one."""
        import ray

        return bool(ray.is_initialized())

    def connect(self) -> None:
        """Connect, unless that has been done.

        Raises:
            LotteryFLError: there is no such cluster, or it cannot be spoken to.
        """
        import ray

        if self.is_connected:
            return
        _require_somebody(self._address)
        logging.getLogger("ray").setLevel(logging.ERROR)  # what the user needs of it, ours say
        try:
            with chdir(self._stand):
                ray.init(
                    address=self._address,
                    namespace=self.namespace,
                    configure_logging=False,
                    log_to_driver=False,
                )
        except Exception as error:  # RuntimeError, ConnectionError, ValueError, …: Ray has no one kind
            raise LotteryFLError(f"ray.address = {self._address!r}: {_told(error)}") from error

    def nodes(self) -> list[Node]:
        """Return those that are alive, the head first."""
        import ray

        with explained():
            found = [
                Node(node["NodeID"], node["NodeManagerAddress"], dict(node["Resources"]))
                for node in ray.nodes()
                if node["Alive"]
            ]
        return sorted(found, key=lambda node: (not node.is_head, node.address, node.id))

    def on(self, node: Node, function: Callable[..., T], *arguments: object, seconds: float = CALL_SECONDS) -> T:
        """Call a function of the installed package on a node.

        Raises:
            LotteryFLError: it failed, the node is gone, or the function is not installed there.
        """
        (result,) = self.on_each([node], function, *arguments, seconds=seconds).values()
        if isinstance(result, LotteryFLError):
            raise result
        return result

    def on_each(
        self, nodes: list[Node], function: Callable[..., T], *arguments: object, seconds: float = CALL_SECONDS
    ) -> dict[Node, T | LotteryFLError]:
        """Call a function of the installed package on several nodes at once; return by node what came, or why not."""
        import ray

        with explained():
            task = ray.remote(num_cpus=0, max_retries=0)(function)
            calls = {node: task.options(scheduling_strategy=there(node)).remote(*arguments) for node in nodes}
            if calls:
                ray.wait(list(calls.values()), num_returns=len(calls), timeout=seconds)
        return {node: self._result(node, call) for node, call in calls.items()}

    def _result(self, node: Node, call: Any) -> Any:
        try:
            with explained():
                import ray

                return ray.get(call, timeout=0)
        except LotteryFLError as error:
            return LotteryFLError(f"node {node.address}: {error}")


def _require_somebody(address: str) -> None:
    """Check that somebody listens at an address, where it is one: Ray would try for a minute and more."""
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS).close()
    except OSError as error:
        raise LotteryFLError(f"ray.address = {address!r}: {error.strerror or error}") from error


def there(node: Node) -> Any:
    """Return the scheduling strategy that means this node and no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node.id, soft=False)


@contextmanager
def explained() -> Iterator[None]:
    """Raise what Ray raises as one line."""
    from ray.exceptions import GetTimeoutError, RayError

    try:
        yield
    except GetTimeoutError as error:
        raise LotteryFLError("gave no answer") from error
    except (RayError, ConnectionError, RuntimeError) as error:
        raise LotteryFLError(_told(error)) from error


def _told(error: BaseException) -> str:
    """Return what an error says in its last line that says something: those before are a trace of another process."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return brief(lines[-1] if lines else type(error).__name__)
