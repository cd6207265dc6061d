"""How a run directory comes from the cluster: by a pod that has its volume, as a tar that is read as it arrives."""

import asyncio
import os
import shutil
import tarfile
from pathlib import Path

from lotteryfl.common.disk.privatefiles import PRIVATE_FILE, PRIVATE_FOLDER
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.kubernetes.calls import Target, called, ended, failure, started

_TRIES = 3
"""Long streams through an API server are cut now and then."""


async def fetch(target: Target, pod: str, manifest: str, source: str, place: Path, seconds: int) -> None:
    """Bring a folder of the volume here.

    Args:
        target: the cluster.
        pod: the name of the pod that the manifest makes.
        manifest: of a pod that has the volume at /runs.
        source: the folder's name there.
        place: where it is to be; there is nothing, or an empty folder.
        seconds: that the pod may take to start.

    Raises:
        LotteryFLError: the pod does not start, or the folder cannot be read or written.
    """
    await called(target.kubectl("apply", "--filename=-"), manifest)
    try:
        await called(target.kubectl("wait", "--for=condition=Ready", f"--timeout={seconds}s", f"pod/{pod}"))
        for left in reversed(range(_TRIES)):
            try:
                await _copied(
                    target.kubectl("exec", pod, "--", "tar", "-C", "/runs", "-cf", "-", source), source, place
                )
                break
            except LotteryFLError:
                if not left:
                    raise
    finally:
        await remove(target, pod)


async def remove(target: Target, pod: str) -> None:
    """Remove the pod, if there is one."""
    await called(target.kubectl("delete", "pod", pod, "--ignore-not-found", "--grace-period=1", "--wait=false"))


async def _copied(command: list[str], source: str, place: Path) -> None:
    """Unpack what a command writes; all of it, or nothing."""
    part = place.with_name(f"{place.name}.part")
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        try:
            process = await started(command, stdout=writing)
        finally:
            os.close(writing)
        try:
            trouble = await asyncio.to_thread(_unpacked, stream, part)
            stream.close()  # or who writes more would wait for ever
            said = await process.stderr.read() if process.stderr else b""
            code = await process.wait()
        except BaseException:
            await ended(process)
            raise
    try:
        if code or trouble:
            raise LotteryFLError(failure(command, code, said or trouble.encode()))
        if place.is_dir():
            place.rmdir()
        (part / source).replace(place)
    except OSError as error:
        raise LotteryFLError(f"{place}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _unpacked(stream: object, part: Path) -> str:
    """Unpack a tar as it arrives; return what is wrong with it."""
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(PRIVATE_FOLDER, parents=True)
        with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
            archive.extractall(part, filter="data")  # nothing outside, no links out of it, no devices
        for path in (part, *part.rglob("*")):  # volumes have groups of their own
            path.chmod(PRIVATE_FOLDER if path.is_dir() else PRIVATE_FILE)
    except (OSError, tarfile.TarError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
