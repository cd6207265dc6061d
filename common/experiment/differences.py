"""Where two experiments first differ, key by key: a run is bound to what decides its bits."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.flattened import flattened
from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.text import quoted

_FREE = ("access", "checks.max_refusals", "task.data_dir", "partition.file")
"""What the operator of a run changes in its experiment.toml: who works where, and where this machine has its data."""

_ABSENT = object()


class Difference(NamedTuple):
    """The first key in which two experiments differ."""

    key: str
    found: str
    """Its value here, as messages quote it."""
    expected: str
    """Its value there."""

    def __str__(self) -> str:
        return f"{self.key} = {self.found}, expected {self.expected}"


def first_difference(found: Experiment, expected: Experiment) -> Difference | None:
    """Return the first key with another value, in the order of the file; what is absent is at its default.

    Args:
        found: what somebody has now.
        expected: what it is held against.
    """
    return _first_difference(dict(flattened(found.model_dump(), ".")), dict(flattened(expected.model_dump(), ".")))


def first_bound_difference(found: Experiment, expected: Experiment) -> Difference | None:
    """Return the first key with another value among those that a run is bound to.

    Left out are who may work, from where on a worker is put aside, and this machine's paths: the data's folder and,
    of a task of one's own, the folder that it is in.
    """
    return _first_difference(_bound(found), _bound(expected))


def _first_difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> Difference | None:
    for key in (*expected, *(key for key in found if key not in expected)):
        values = [table.get(key, _ABSENT) for table in (found, expected)]
        if type(values[0]) is not type(values[1]) or values[0] != values[1]:  # true is no 1, and 1 no 1.0
            return Difference(key, *("nothing" if value is _ABSENT else quoted(value) for value in values))
    return None


def _bound(experiment: Experiment) -> dict[str, Any]:
    flat = {
        key: value
        for key, value in flattened(experiment.model_dump(), ".")
        if not any(key == free or key.startswith(f"{free}.") for free in _FREE)
    }
    return {**flat, "task.name": task_id(experiment.task.name)}
