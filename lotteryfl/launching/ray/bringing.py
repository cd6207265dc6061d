"""A run directory that comes from a node's disk to this machine, when nobody drives it any more. All of it blocks."""

import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from lotteryfl.common.disk.privatefiles import PRIVATE_FOLDER, private
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.ray import node as on_node
from lotteryfl.launching.ray.cluster import Cluster, Node


def bring(cluster: Cluster, node: Node, source: Path, run_dir: Path, note: Callable[[str], None]) -> None:
    """Bring it, unless there is one of its name here: that may be the same, where machines share their disks.

    Args:
        cluster: whose node it is.
        node: where it is.
        source: its path there.
        run_dir: its path here.
        note: is told where another stays.

    Raises:
        LotteryFLError: it cannot be read there, or not be written here.
    """
    sizes = cluster.on(node, on_node.listing, str(source))
    if run_dir.exists():
        if on_node.listing(str(run_dir)) != sizes:
            note(f"{run_dir}: is another here than on node {node.address}, which stays there")
        return
    part = run_dir.with_name(f".{run_dir.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(PRIVATE_FOLDER, parents=True)
        for name, size in sizes.items():
            _bring_file(cluster, node, str(source), name, size, part)
        part.rename(run_dir)
    except OSError as error:
        raise LotteryFLError(f"{error.filename or part}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _bring_file(cluster: Cluster, node: Node, run_dir: str, name: str, size: int, into: Path) -> None:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise LotteryFLError(f"node {node.address}: {name!r}: expected a name within the run directory")
    path = into / name
    path.parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    with open(path, "xb", opener=private) as file:
        while file.tell() < size:
            content = cluster.on(node, on_node.part, run_dir, name, file.tell())
            if not content:
                raise LotteryFLError(f"node {node.address}: {run_dir}/{name}: has changed while it was read")
            file.write(content)
