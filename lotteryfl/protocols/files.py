"""The protocols' files, which come with the program: a table `protocol`, and beside it those of an experiment file."""

import tomllib
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.experiment.tables import TOMLTable, explained
from lotteryfl.common.text import quoted
from lotteryfl.protocols.described import Protocol

_ENDING = ".toml"


def names() -> list[str]:
    """Return the names of all protocols, in alphabetical order."""
    return sorted(file.name.removesuffix(_ENDING) for file in _folder().iterdir() if file.name.endswith(_ENDING))


@cache
def protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        ExperimentError: there is none.
    """
    if name not in names():
        raise ExperimentError(f"protocol {quoted(name)}: expected one of {', '.join(names())}")
    file = f"{name}{_ENDING}"
    return parsed(tomllib.loads(_folder().joinpath(file).read_text(encoding="utf-8")), file)


def parsed(table: TOMLTable, source: str) -> Protocol:
    """Return what a protocol's file says.

    Args:
        table: the file, read.
        source: what errors call it.

    Raises:
        ExperimentError: it is not one.
    """
    about = table.pop("protocol", {})
    experiment = validate(table, source)
    with explained(Protocol, source):
        return Protocol.model_validate({**about, "experiment": experiment})


def _folder() -> Traversable:
    return resources.files("lotteryfl.protocols")
