"""Which version of the user's own code this is: a digest of each of its files, by which machines compare theirs."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, TypeAdapter

from lotteryfl.common.names import Digest
from lotteryfl.common.text import quoted

_MOST_FILES = 1000
_MOST_NAMED = 3
"""How many files a difference names of each kind."""

_Name = Annotated[str, StringConstraints(max_length=500)]
_Sha256 = Annotated[Digest, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]
_FILES: TypeAdapter[dict[str, Digest]] = TypeAdapter(Annotated[dict[_Name, _Sha256], Field(max_length=_MOST_FILES)])


@dataclass(frozen=True)
class SourceVersion:
    """The digests of some files; false where there are none, as of built-in tasks and of peers that tell none."""

    files: Mapping[str, Digest] = field(default_factory=dict)
    """By their names, relative to the folder of the one that was named."""

    def __bool__(self) -> bool:
        return bool(self.files)

    @classmethod
    def of(cls, first: Path, files: Iterable[Path]) -> Self:
        """Return the version of some files.

        Args:
            first: the one in whose folder their names begin.
            files: all of them.
        """
        digests = {
            Path(os.path.relpath(file, first.parent)).as_posix(): Digest(hashlib.sha256(file.read_bytes()).hexdigest())
            for file in files
        }
        names = sorted(digests)
        return cls(_bounded({name: digests[name] for name in names}))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; '' is no version.

        Raises:
            ValueError: it is something else, or longer than anybody's.
        """
        return cls(_FILES.validate_json(text) if text else {})

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(self.files) if self.files else ""

    def difference(self, other: "SourceVersion") -> str:
        """Return in what another version is not this one; '' where it is, or where one of them is none."""
        if not self or not other:
            return ""
        both = self.files.keys() & other.files.keys()
        kinds = (
            ("", {name for name in both if self.files[name] != other.files[name]}, " differs"),
            ("there is no ", self.files.keys() - other.files.keys(), ""),
            ("there is a ", other.files.keys() - both, " too"),
        )
        return ", ".join(f"{before}{_listed(names)}{after}" for before, names, after in kinds if names)


def _bounded(digests: dict[str, Digest]) -> dict[str, Digest]:
    """Return the digests, and one for all together that are too many or have too long a name to travel by their own."""
    own = {name: digests[name] for name in list(digests)[: _MOST_FILES - 1] if len(name) <= 500}
    if len(own) == len(digests):
        return digests
    rest = {name: digest for name, digest in digests.items() if name not in own}
    whole = hashlib.sha256(json.dumps(rest).encode()).hexdigest()
    return {**own, "others": Digest(whole)}


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    text = ", ".join(map(quoted, shown[:_MOST_NAMED]))
    return text if len(shown) <= _MOST_NAMED else f"{text} and {len(shown) - _MOST_NAMED} more"
