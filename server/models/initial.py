"""θ_0 from elsewhere: a safetensors file, the folder of a model, or what another run has made."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import parse_qsl

from torch import Tensor, nn

from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.common.hubplace import FILE, HubPlace
from lotteryfl.common.names import Digest
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.pruning.modeltensors import model_tensors
from lotteryfl.common.pruning.parameters import digest, load_tensors, named_tensors
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.text import quoted
from lotteryfl.common.wire.payload import is_digest
from lotteryfl.server.models.ticket import global_tensors, ticket_tensors
from lotteryfl.server.store.rundir import RunDirectory, inspected
from lotteryfl.server.store.setupmark import is_set_up

_FORM = (
    "FILE.safetensors, a model's folder or a run's, or hf:OWNER/NAME@COMMIT, and behind it #client=NUMBER, "
    "#sha256=DIGEST, #except=PATTERN"
)
_SHOWN = 3


@runtime_checkable
class TakesPretrained(Protocol):
    """A model that reads a library's weights by itself."""

    def pretrained(self, folder: Path) -> Mapping[str, Tensor]:
        """Return a value for each of its tensors, by name, out of a folder with `model.safetensors`."""


@dataclass(frozen=True)
class Origin:
    """What `task.initial` says: PLACE, and behind # any of client, sha256 and except, joined by &."""

    place: Path | HubPlace
    client: int | None = None
    """Of a run, whose ticket it is; None: the newest global model."""
    sha256: str = ""
    """What the digest must be; empty: it may be any."""
    spared: tuple[str, ...] = ()
    """Shell patterns of names that stay freshly initialised, whatever is given for them."""

    @classmethod
    def read(cls, text: str) -> "Origin":
        """Read `task.initial`.

        Raises:
            ValueError: it is of another form.
        """
        place, hash_, fragment = text.partition("#")
        pairs = parse_qsl(fragment, strict_parsing=True) if hash_ else []
        keys = dict(pairs)
        if not place or len(keys) < len(pairs) or keys.keys() - {"client", "sha256", "except"}:
            raise ValueError(f"expected {_FORM}")
        client, sha256 = keys.get("client"), keys.get("sha256", "")
        if client is not None and not re.fullmatch(r"\d{1,9}", client, re.ASCII):
            raise ValueError(f"client = {quoted(client)}: expected a number")
        if sha256 and not is_digest(sha256):
            raise ValueError(f"sha256 = {quoted(sha256)}: expected 64 hexadecimal digits")
        spared = tuple(keys.get("except", "").split(",")) if "except" in keys else ()
        where = HubPlace.read(place) or Path(place).expanduser()
        return cls(where, None if client is None else int(client), sha256, spared)


def take_initial(model: nn.Module, text: str) -> Digest:
    """Put the values that `task.initial` names into a freshly initialised model.

    Returns:
        A digest of what was read: of a file, its SHA-256; of another run's model, its `model_sha256`.

    Raises:
        ExperimentError: there is no such file or run, its digest is another, or it does not fit the model.
    """
    try:
        origin = Origin.read(text)
        return _take(model, origin)
    except (LotteryFLError, ValueError) as error:
        raise ExperimentError(f"task.initial = {quoted(text)}: {error}") from error
    except OSError as error:
        raise ExperimentError(f"task.initial = {quoted(text)}: {error.filename}: {error.strerror}") from error


def _take(model: nn.Module, origin: Origin) -> Digest:
    place = origin.place
    if isinstance(place, Path) and is_set_up(place):
        with inspected(place) as run:
            tensors = _model_of(run, origin.client)
            return _put(model, origin, tensors, digest(tensors))
    if origin.client is not None:
        raise LotteryFLError("has a client, and is no run directory")
    if isinstance(place, HubPlace):
        return _take_published(model, origin, place.fetched())
    if not place.is_dir():
        return _put(model, origin, open_file(place), _file_digest(place))
    if not (file := place / FILE).is_file():
        raise LotteryFLError(f"is a folder, and neither a run's nor one with {FILE}")
    return _take_published(model, origin, file)


def _take_published(model: nn.Module, origin: Origin, file: Path) -> Digest:
    """Take a folder's weights, whose names may be others than the model's where this says how they are to be read."""
    if not isinstance(model, TakesPretrained):
        return _put(model, origin, open_file(file), _file_digest(file))
    sha256 = _file_digest(file)
    _check_digest(origin, sha256)
    try:
        tensors = model.pretrained(file.parent)
    except Exception as error:  # whatever a library raises at files that are not as it expects them
        raise LotteryFLError(first_line(error)) from error
    return _put(model, origin, tensors, sha256)


def _model_of(run: RunDirectory, client: int | None) -> dict[str, Tensor]:
    return global_tensors(run) if client is None else ticket_tensors(run, client)


def _file_digest(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())


def _put(model: nn.Module, origin: Origin, tensors: Mapping[str, Tensor], sha256: Digest) -> Digest:
    _check_digest(origin, sha256)
    load_tensors(model, _fitting(model, tensors, origin.spared))
    return sha256


def _check_digest(origin: Origin, sha256: Digest) -> None:
    if origin.sha256 not in ("", sha256):
        raise LotteryFLError(f"its digest is {sha256}")


def _fitting(model: nn.Module, tensors: Mapping[str, Tensor], spared: Iterable[str]) -> dict[str, Tensor]:
    """Return a value for each of the model's tensors: what is given, and its own where it is to be spared.

    Raises:
        LotteryFLError: a name is missing or not the model's, or a shape is another.
    """
    own = named_tensors(model)
    plain = {alias: item.name for item in model_tensors(model) for alias in item.names}
    given = {
        plain.get(name, name): tensor
        for name, tensor in tensors.items()
        if not any(fnmatchcase(name, pattern) for pattern in spared)
    }
    fresh = {name for name in own if any(fnmatchcase(name, pattern) for pattern in spared)}
    shapes = [
        f"{name!r} of shape {list(given[name].shape)} for {list(own[name].shape)}"
        for name in sorted(given.keys() & own.keys())
        if given[name].shape != own[name].shape
    ]
    problems = {
        "without": sorted(map(repr, own.keys() - given.keys() - fresh)),
        "with": shapes,
        "and with what the model has not,": sorted(map(quoted, given.keys() - own.keys())),
    }
    if said := "; ".join(f"{what} {_some(names)}" for what, names in problems.items() if names):
        raise LotteryFLError(f"does not fit the model: {said}; leave out what is to be fresh by #except=PATTERN,…")
    return {name: given.get(name, tensor) for name, tensor in own.items()}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
