"""What lies beside a file of the user's own: what of it the file imports, and how that can be imported.

The file's folder is searched as `python FILE` searches it, before all others; only what comes with Python stays
Python's, so that a `profile.py` that lies there disturbs nobody, and what has been imported already stays what it is.
It is searched by way of `sys.path`, which processes that the user's code starts inherit, as a DataLoader's.
"""

import ast
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Self

NOT_THE_USERS = tuple(
    f"{Path(folder)}{os.sep}"
    for folder in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).parents[2]),  # lotteryfl/common/owncode/siblings.py: the program itself
    }
)
"""Folders of the code that users do not write."""

_PYTHONS = Path(os.__file__).parent
_PYTHONS_FOLDERS = {str(_PYTHONS), str(_PYTHONS / "lib-dynload")}
_NOT_BESIDE = sys.stdlib_module_names | {"lotteryfl"}
"""Names that never mean a file beside the user's."""


@dataclass(frozen=True)
class OwnSource:
    """A module of the user's: where it is, and where the names begin of what it may import."""

    name: str
    """As others import it."""
    file: Path
    root: Path
    """The folder that has its top-level name."""

    @classmethod
    def of_file(cls, file: Path) -> Self:
        """Return that of a file that is named by its path."""
        return cls(file.stem, file, file.parent)

    @classmethod
    def of_module(cls, name: str, file: Path) -> Self:
        """Return that of a module that is named as Python finds it."""
        return cls(name, file, file.parents[name.count(".") + (file.stem == "__init__")])

    def find(self, name: str) -> Path | None:
        """Return the source file of this name below the root."""
        path = self.root.joinpath(*name.split("."))
        candidates = (path / "__init__.py", path.with_name(f"{path.name}.py"))
        return next((candidate for candidate in candidates if candidate.is_file()), None)

    def is_from_here(self, name: str, module: ModuleType) -> bool:
        """Tell whether a module that has been imported by this name is the one below the root."""
        file = getattr(module, "__file__", None) or ""
        return file.startswith(f"{self.root}{os.sep}") and self._is_own(name) and self.find(name) == Path(file)

    def reached(self) -> dict[str, Path]:
        """Return by name this module and those below the root that it imports, in functions too, and what these import.

        They are read, not run: what is imported by a name that is only computed is not among them.
        """
        found = {name: file for name in _prefixes(self.name) if (file := self.find(name))} | {self.name: self.file}
        waiting = list(found)
        while waiting:
            name = waiting.pop()
            for each in _imports(name, found[name]):
                if each not in found and self._is_own(each) and (file := self.find(each)):
                    found[each] = file
                    waiting.append(each)
        return found

    def _is_own(self, name: str) -> bool:
        """Tell whether a name means what is below the root.

        Not what Python or an installed package has been imported by; and below a folder of installed packages, only
        what belongs to this module's own.
        """
        top = name.partition(".")[0]
        if f"{self.root}{os.sep}".startswith(NOT_THE_USERS):
            return top == self.name.partition(".")[0]
        known = getattr(sys.modules.get(top), "__file__", None) or ""
        return top not in _NOT_BESIDE and not known.startswith(NOT_THE_USERS)


def search_first(folder: Path) -> None:
    """Let imports find what is in this folder, before all but what comes with Python."""
    pythons = [entry for entry in sys.path if entry in _PYTHONS_FOLDERS]
    sys.path[:] = dict.fromkeys([*pythons, str(folder), *sys.path])


def search_no_more(folder: Path) -> None:
    """Take back what `search_first` did."""
    if str(folder) in sys.path:
        sys.path.remove(str(folder))


def _imports(name: str, file: Path) -> Iterator[str]:
    """Return the names of modules, or of what may be some, that the import statements of a module have."""
    try:
        with warnings.catch_warnings(action="ignore"):  # importing it will give them
            tree = ast.parse(file.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError):
        return  # importing it says what is wrong
    package = name if file.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _prefixes(alias.name)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue  # beyond its package
            yield from _prefixes(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _prefixes(name: str) -> Iterator[str]:
    """Return a, a.b and a.b.c of a.b.c, as importing it imports them."""
    return accumulate(name.split("."), "{}.{}".format)
