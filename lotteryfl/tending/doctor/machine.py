"""Whether this machine can do the work: what is installed, what computes, and what there is of all that work takes."""

import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.metadata import metadata as metadata_of
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.filesize import decimal

from lotteryfl.tending.doctor.check import Check, looked

PACKAGE = "lotteryfl"
_LITTLE_MEMORY = 1 << 30
_LITTLE_DISK, _NO_DISK = 1 << 30, 100 << 20
_FEW_FILES = 1024
_LITTLE_SHARED = 64 << 20
_SHARED = Path("/dev/shm")  # noqa: S108 - looked at, not written to


def checks_of_machine(folder: Path) -> Iterator[Check]:
    """Look at this machine.

    Args:
        folder: on whose file system runs are to be.
    """
    yield from looked("python", _python)
    yield from looked("libraries", _libraries)
    yield from looked("devices", _devices, "reinstall torch as its site says for this machine")
    yield from looked("memory", _memory)
    yield from looked("disk", partial(_disk, folder))
    yield from looked("temporary files", partial(_disk, Path(tempfile.gettempdir()), "temporary files"))
    yield from looked("open files", _open_files)
    yield from looked("shared memory", _shared_memory)


def disk(subject: str, folder: Path, wanted: int) -> Check:
    """Say whether a file system has room.

    Args:
        subject: what for.
        folder: that lies there, or will.
        wanted: bytes below which it is a warning.
    """
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(there).free
    found = f"{decimal(free)} free at {there}"
    if free < _NO_DISK:
        return Check("fail", subject, found, "make room: a full disk stops a run, and loses nothing")
    if free < wanted:
        return Check("warn", subject, f"{found}, under {decimal(wanted)}", "make room, or choose another --run-dir")
    return Check("ok", subject, found)


def _python() -> Iterator[Check]:
    wanted = metadata_of(PACKAGE)["Requires-Python"] or ""
    found = f"{platform.python_version()} at {sys.executable}"
    if SpecifierSet(wanted).contains(platform.python_version(), prereleases=True):
        yield Check("ok", "python", found)
    else:
        yield Check("fail", "python", f"{found}, expected {wanted}", "make the environment with such a Python")


def _libraries() -> Iterator[Check]:
    sound = 0
    for requirement in map(Requirement, requires(PACKAGE) or []):
        extra = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            if not extra:
                yield _off("fail", requirement, "not installed")
            continue
        if requirement.specifier.contains(found, prereleases=True):
            sound += 1
        else:
            yield _off("warn" if extra else "fail", requirement, found)
    yield Check("ok", "libraries", f"lotteryfl {version(PACKAGE)}, {sound} others within their bounds")


def _off(verdict: str, requirement: Requirement, found: str) -> Check:
    wanted = f"{requirement.name}{requirement.specifier}"
    is_needed = verdict == "fail"
    return Check(
        "fail" if is_needed else "warn",
        requirement.name,
        f"{found}, expected {requirement.specifier}",
        f"pip install '{wanted}'{'' if is_needed else ', if its extra is used'}",
    )


def _devices() -> Iterator[Check]:
    import torch  # takes seconds, and may be what is wrong

    from lotteryfl.common import accelerators
    from lotteryfl.running.cores import usable_cores

    yield from looked("cpu", lambda: [_worked("cpu", f"{usable_cores()} cores, torch {torch.__version__}")])
    kind = accelerators.kind()
    for number in range(accelerators.count()):
        name = f"{kind}:{number}"
        yield from looked(name, partial(lambda name: [_worked(name, _free_of(name))], name), "see docs/gpus.md")


def _worked(device: str, what: str) -> Check:
    """Multiply two small matrices there."""
    import torch

    ones = torch.ones(8, 8, device=device)
    if (found := float((ones @ ones).sum())) != 512:
        return Check("fail", device, f"8×8 ones by themselves sum to {found:g}, expected 512", "do not compute on it")
    return Check("ok", device, f"{what}, computes")


def _free_of(device: str) -> str:
    import torch

    from lotteryfl.common.accelerators import device_memory

    memory = device_memory(torch.device(device))
    return f"{decimal(memory.free)} of {decimal(memory.total)} free" if memory else "memory not told"


def _memory() -> Iterator[Check]:
    import torch

    from lotteryfl.common.memory.bounds import host_bound, left_of

    left, bound = left_of(torch.device("cpu")), host_bound()
    found = f"{decimal(left.nbytes)} left of {bound}"
    if left.nbytes < _LITTLE_MEMORY:
        yield Check(
            "warn", "memory", found, "fewer --workers, a smaller batch_size, or `lotteryfl estimate` beforehand"
        )
    else:
        yield Check("ok", "memory", found)


def _disk(folder: Path, subject: str = "disk") -> Iterator[Check]:
    yield disk(subject, folder, _LITTLE_DISK)


def _open_files() -> Iterator[Check]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    found = f"{soft}, a coordinator raises it to {'as many as it wants' if unlimited else hard}"
    if not unlimited and hard < _FEW_FILES:
        yield Check("warn", "open files", found, f"ulimit -Hn {_FEW_FILES}: each worker is a connection")
    else:
        yield Check("ok", "open files", found)


def _shared_memory() -> Iterator[Check]:
    if not _SHARED.is_dir():
        yield Check("ok", "shared memory", f"no {_SHARED} here, and none is needed")
        return
    free = shutil.disk_usage(_SHARED).free
    found = f"{decimal(free)} free at {_SHARED}"
    if free < _LITTLE_SHARED:
        yield Check("warn", "shared memory", found, "a task's DataLoader workers need it: --shm-size in a container")
    else:
        yield Check("ok", "shared memory", found)
