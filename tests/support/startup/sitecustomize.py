"""What a process begins with that has this folder in PYTHONPATH: it can import torchvision."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


class _Declaring(MetaPathFinder):
    """Finds nothing; whoever looks for torchvision finds its operators declared."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname == "torchvision":
            from tests.support.torchvisionoperators import declare

            declare()


sys.meta_path.insert(0, _Declaring())
