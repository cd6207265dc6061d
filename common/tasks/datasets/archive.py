"""Archives that data sets are published in: fetched, held against their digest, and unpacked file by file."""

import hashlib
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.request import Request, urlopen

from lotteryfl.common.errors import TaskError
from lotteryfl.common.tasks.datasets.places import put_in_place
from lotteryfl.common.telemetry.logs import say

_TIMEOUT_SECONDS = 30.0
"""Without a byte."""

_PIECE = 2**20


@dataclass(frozen=True)
class Archive:
    """A tar.gz of which every bit is known."""

    url: str
    size: int
    """Bytes."""
    sha256: str
    folder: str
    """In it, and what it is unpacked to."""

    @property
    def name(self) -> str:
        """The file's."""
        return self.url.rpartition("/")[2]


def unpack_into(parent: Path, archive: Archive, files: Sequence[str], most: int) -> Path:
    """Return a new folder within `parent` with files of an archive, which is there already, or is fetched first.

    Other processes see the folder whole, or not at all; one that was faster than this one wins.

    Args:
        parent: made, where it is not there.
        archive: which.
        files: what is taken out of its folder, by name.
        most: bytes of the largest of them.

    Raises:
        TaskError: it is not to be had, or not the one that it should be.
    """
    own = parent / archive.name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent) as temporary:
            path = own if own.is_file() else _fetched(archive, Path(temporary))
            _check(archive, path)
            new = Path(temporary) / archive.folder
            new.mkdir()
            _unpack(archive, path, new, files, most)
            return put_in_place(new, parent / archive.folder)
    except OSError as error:
        raise TaskError(f"{parent}: {error.strerror or error}") from error


def _fetched(archive: Archive, folder: Path) -> Path:
    path = folder / archive.name
    say(f"fetching {archive.url} ({archive.size / 1e6:.0f} MB)")
    try:
        # The addresses are this program's own, and what comes is held against its digest.
        with urlopen(Request(archive.url), timeout=_TIMEOUT_SECONDS) as answer, path.open("wb") as file:  # noqa: S310
            _copy(answer, file, archive.size + 1)
    except (OSError, HTTPException) as error:
        raise TaskError(f"{archive.url} cannot be fetched: {getattr(error, 'reason', None) or error}") from error
    return path


def _copy(source: IO[bytes], target: IO[bytes], most: int) -> None:
    while most and (piece := source.read(min(_PIECE, most))):
        target.write(piece)
        most -= len(piece)


def _check(archive: Archive, path: Path) -> None:
    if (size := path.stat().st_size) != archive.size:
        raise TaskError(f"{path}: has {size} bytes or more, expected {archive.size} of {archive.url}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != archive.sha256:
        raise TaskError(f"{path}: its SHA-256 is {found}, expected {archive.sha256} of {archive.url}")


def _unpack(archive: Archive, path: Path, folder: Path, files: Sequence[str], most: int) -> None:
    """Copy the files; nothing else of the archive is made, whatever it names."""
    missing = {f"{archive.folder}/{file}": file for file in files}
    try:
        with tarfile.open(path, "r:gz") as packed:
            for member in packed:
                if member.isreg() and member.size <= most and (file := missing.pop(member.name, "")):
                    content = packed.extractfile(member)
                    assert content is not None  # noqa: S101 - of a regular file there is one
                    with content, (folder / file).open("wb") as target:
                        shutil.copyfileobj(content, target)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise TaskError(f"{path}: cannot be unpacked: {error}") from error
    if missing:
        raise TaskError(f"{path}: has no {min(missing)} of at most {most} bytes")
