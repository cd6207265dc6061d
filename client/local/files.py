"""Which local algorithms there are: built in, or in files and modules of the user's own."""

import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from lotteryfl.client import algorithms
from lotteryfl.client.local.algorithm import HOOKS, LocalAlgorithm
from lotteryfl.common.errors import LocalAlgorithmError
from lotteryfl.common.owncode.sourceversion import SourceVersion
from lotteryfl.common.owncode.usercode import absolute, import_source, version_of
from lotteryfl.common.seeding import seeded
from lotteryfl.common.text import quoted
from lotteryfl.common.wire.localcode import version_digest


@dataclass(frozen=True)
class LocalCode:
    """A local algorithm, and where it comes from."""

    algorithm: type[LocalAlgorithm]
    version: SourceVersion
    """The digests of the files that it is made of; of a built-in one, of its own."""
    file: str
    source: str = ""
    """As it was named; empty: it is built in."""
    max_epochs: int | None = None
    """The most that one training of an assignment may take by it; None: there is no bound."""

    @property
    def name(self) -> str:
        """What plans call it."""
        return self.algorithm.name

    @property
    def digest(self) -> str:
        """By which plans name its version."""
        return version_digest(self.version)


def load_local(sources: Sequence[str] = (), maybe: Sequence[str] = ()) -> dict[str, LocalCode]:
    """Return all local algorithms by name.

    Args:
        sources: .py files and modules' names; every class of their own that is a `LocalAlgorithm` is taken.
        maybe: files and modules that are for something else, and may hold none.

    Raises:
        LocalAlgorithmError: one cannot be imported, holds none, or one that has no name of its own, or a method that
            looks like a hook and is none.
    """
    found = {code.name: code for code in _built_in()}
    for code in _all_of(sources, maybe):
        if (other := found.get(code.name)) is not None:
            where = other.file if other.source else "built in"
            raise LocalAlgorithmError(
                f"{_what(code.source)}: class {code.algorithm.__name__} has name = {code.name!r}, which is "
                f"{where} already: expected one of its own"
            )
        found[code.name] = code
    return found


def _built_in() -> Iterator[LocalCode]:
    for each in pkgutil.iter_modules(algorithms.__path__):
        module = import_module(f"{algorithms.__name__}.{each.name}")
        file = Path(str(module.__file__))
        for kind in _classes(module, each.name):
            yield LocalCode(kind, SourceVersion.of(file, [file]), str(file))


def _all_of(sources: Sequence[str], maybe: Sequence[str]) -> Iterator[LocalCode]:
    wanted = {absolute(source) for source in sources}
    for source in dict.fromkeys(absolute(each) for each in (*maybe, *sources)):
        what = _what(source)
        with seeded(0):  # there is no run yet
            module = import_source(what, source, LocalAlgorithmError)
        found = _classes(module, what)
        if not found and source in wanted:
            raise LocalAlgorithmError(f"{what}: holds no class that is a lotteryfl.LocalAlgorithm")
        for kind in found:
            yield LocalCode(kind, version_of(module), str(module.__file__), source)


def _what(source: str) -> str:
    return f"--local {source}"


def _classes(module: ModuleType, what: str) -> list[type[LocalAlgorithm]]:
    found = [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, LocalAlgorithm) and each.__module__ == module.__name__
    ]
    for each in found:
        _check(each, f"{what}: class {each.__name__}")
    return found


def _check(kind: type[LocalAlgorithm], what: str) -> None:
    """Refuse a class that has no name, and methods that nobody would call, or not so."""
    if not isinstance(kind.name, str) or not kind.name:
        raise LocalAlgorithmError(f"{what} has name = {quoted(kind.name)}: expected what its strategy calls it")
    for name, method in _public(kind):
        if name not in HOOKS:
            raise LocalAlgorithmError(
                f"{what} has a method {name}(), which is no hook: hooks are {', '.join(HOOKS)}; a helper's name begins "
                "with _"
            )
        try:
            inspect.signature(method).bind(None, *range(HOOKS[name]))
        except TypeError:
            expected = ", ".join(inspect.signature(getattr(LocalAlgorithm, name)).parameters)
            raise LocalAlgorithmError(
                f"{what}: {name}{inspect.signature(method)}: expected {name}({expected})"
            ) from None


def _public(kind: type[LocalAlgorithm]) -> Iterable[tuple[str, Any]]:
    own = [each for each in kind.__mro__ if issubclass(each, LocalAlgorithm) and each is not LocalAlgorithm]
    methods: Mapping[str, Any] = {name: value for each in reversed(own) for name, value in vars(each).items()}
    return ((name, value) for name, value in methods.items() if not name.startswith("_") and _is_method(value))


def _is_method(value: object) -> bool:
    return inspect.isfunction(value) or isinstance(value, staticmethod | classmethod)
