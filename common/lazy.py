"""Fronts: packages that hand on their modules' names, each imported on first use, since torch alone takes seconds."""

from collections.abc import Callable, Mapping
from importlib import import_module


def front(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__` (PEP 562).

    Args:
        package: its name.
        homes: by public name, the module of the package that has it, as "prune" or "pruning.prune"; for a module
            itself, as "pruning.prune" for "prune", that module.
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{homes[name]}")
        return module if homes[name].rpartition(".")[2] == name else getattr(module, name)

    return find, lambda: sorted(homes)
