"""The user's own code as files of a ConfigMap: what was named here, and what of its folder it imports."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.owncode.siblings import OwnSource
from lotteryfl.common.owncode.usercode import absolute
from lotteryfl.running.owncode import OwnCode

FOLDER = PurePosixPath("/lotteryfl/files")
"""Where the chart mounts them."""

MOST_BYTES = 900_000
"""Of all of them and the experiment: a ConfigMap takes 1 MiB, with its names."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


@dataclass
class OwnFiles:
    """Files by their names below `FOLDER`; those of one folder here are in one folder there."""

    base: Path
    """The experiment's folder: what lies there lies beside the experiment there, too."""
    texts: dict[str, str] = field(default_factory=dict)
    _roots: dict[Path, str] = field(default_factory=dict)

    def taken(self, own: OwnCode) -> OwnCode:
        """Take the files of the user's own code, and return it as it is named in the pods.

        What is no file here is named as it is: a module, or a path of the image.

        Raises:
            LotteryFLError: a file cannot be read, or its name cannot be one there.
        """
        return replace(
            own,
            tasks=tuple(map(self.named, own.tasks)),
            strategies=tuple(map(self.named, own.strategies)),
            local=tuple(map(self.named, own.local)),
        )

    def named(self, source: str) -> str:
        """Take a source and what it imports of its folder; return how it is named in the pods.

        Raises:
            LotteryFLError: a file cannot be read, or its name cannot be one there.
        """
        path = Path(absolute(source))
        if not source.endswith(".py") or not path.is_file():
            return source
        own = OwnSource.of_file(path)
        for file in own.reached().values():
            self.texts[self._place(own.root, file)] = _text(file)
        return str(FOLDER / self._place(own.root, path))

    def _place(self, root: Path, file: Path) -> str:
        if root not in self._roots:
            self._roots[root] = next(self._folders(root))
        name = str(PurePosixPath(self._roots[root]) / file.relative_to(root).as_posix())
        if not _NAME.fullmatch(name):
            raise LotteryFLError(f"{file}: cannot be a file of a ConfigMap: expected letters, digits, _, - and . alone")
        return name

    def _folders(self, root: Path) -> Iterator[str]:
        if root.is_relative_to(self.base):
            yield root.relative_to(self.base).as_posix()
        yield f"own-{len(self._roots)}"


def _text(file: Path) -> str:
    """Return a file's text to the byte: a task's version is that of its files' bytes."""
    try:
        return file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise LotteryFLError(f"{file}: cannot be read: {error}") from error
