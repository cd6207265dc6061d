"""A real Ray of several raylets on this machine, in a folder of its own, without telemetry or a dashboard."""

import os
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.cluster_utils import Cluster
from ray.util import list_named_actors

from tests.support.processes import free_port

_STORE_BYTES = 80_000_000


class RayCluster:
    """Its head has room for a worker and a coordinator, another node for a worker; more come and go with tests."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))  # paths of sockets have to be short
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(self._folder)}
        port = free_port()
        common = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        self._common = common
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={**common, "num_cpus": 2, "ray_client_server_port": port},
        )
        self.add(num_cpus=1)
        self.address: str = self._cluster.address
        self.client_address = f"ray://127.0.0.1:{port}"
        """For who is on none of its machines."""
        ray.init(self.address, configure_logging=False, log_to_driver=False)

    def add(self, **settings: object) -> Any:
        """Add a node, and return it."""
        return self._cluster.add_node(**self._common, **settings)

    def remove(self, node: Any, *, graceful: bool = True) -> None:
        """Take a node away; otherwise its raylet is killed."""
        self._cluster.remove_node(node, allow_graceful=graceful)

    def named(self) -> list[dict[str, str]]:
        """Return name and namespace of every actor that has a name and is alive."""
        return list(list_named_actors(all_namespaces=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ray.shutdown()
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)


def parent_of(pid: int) -> int:
    """Return the number of a process's parent."""
    found = re.search(r"^PPid:\s*(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def is_running(pid: int) -> bool:
    """Tell whether a process is there, and not only waited for."""
    try:
        return not re.search(r"^State:\s*[ZX]", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except FileNotFoundError:
        return False


def processes_of(text: str) -> list[int]:
    """Return the numbers of the processes whose command line has a text in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes() and is_running(int(path.parent.name)):
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
