"""A strategy's own options (`strategy.options`), checked as they are read."""

import sys

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment

_MOST = sys.float_info.max


def number(experiment: Experiment, key: str, default: float, *, least: float = 0.0, most: float = _MOST) -> float:
    """Return an option that is a number.

    Args:
        experiment: whose.
        key: of the option.
        default: what it is where nothing is said.
        least: what it may be.
        most: what it may be.

    Raises:
        ExperimentError: it is none, or out of its range.
    """
    value = experiment.strategy.options.get(key, default)
    if isinstance(value, bool | str) or not least <= value <= most:
        range_ = f"of {least:g} to {most:g}" if most < _MOST else f"not below {least:g}"
        raise ExperimentError(f"strategy.options.{key} = {value!r}: expected a number {range_}")
    return float(value)


def flag(experiment: Experiment, key: str, *, default: bool) -> bool:
    """Return an option that is true or false.

    Raises:
        ExperimentError: it is neither.
    """
    value = experiment.strategy.options.get(key, default)
    if not isinstance(value, bool):
        raise ExperimentError(f"strategy.options.{key} = {value!r}: expected true or false")
    return value


def check_known(experiment: Experiment, *keys: str) -> None:
    """Check that there are no other options than a strategy's: one that is misspelt would say nothing.

    Raises:
        ExperimentError: there are.
    """
    for key, value in experiment.strategy.options.items():
        if key not in keys:
            raise ExperimentError(
                f"strategy.options.{key} = {value!r}: strategy.name = {experiment.strategy.name!r} has no such option, "
                f"expected {' or '.join(keys)}"
            )
