"""A strategy's own options (`strategy.options`), checked as they are read."""

import math
import sys
from operator import attrgetter
from typing import TypeVar

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import Experiment

Word = TypeVar("Word", bound=str)


def number(experiment: Experiment, key: str, default: float, *, least: float = 0.0, most: float = math.inf) -> float:
    """Return an option that is a number.

    Args:
        experiment: whose.
        key: of the option.
        default: what it is where nothing is said.
        least: what it may be.
        most: what it may be; infinite: any finite number.

    Raises:
        ExperimentError: it is none, or out of its range.
    """
    value = experiment.strategy.options.get(key, default)
    if isinstance(value, bool | str) or not least <= value <= min(most, sys.float_info.max):  # NaN is refused too
        range_ = f"of {least:g} to {most:g}" if math.isfinite(most) else f"not below {least:g}"
        raise ExperimentError(f"strategy.options.{key} = {value!r}: expected a finite number {range_}")
    return float(value)


def whole(
    experiment: Experiment, key: str, default: int, *, least: float = 0, most: float = math.inf, of: str = ""
) -> int:
    """Return an option that is a whole number, as `number`.

    Args:
        experiment: whose.
        key: of the option.
        default: what it is where nothing is said.
        least: what it may be.
        most: what it may be.
        of: what it is a number of, for the message.

    Raises:
        ExperimentError: it is none, or out of its range.
    """
    value = number(experiment, key, default, least=least, most=most)
    if not value.is_integer():
        expected = f"a whole number of {of}" if of else "a whole number"
        raise ExperimentError(f"strategy.options.{key} = {value}: expected {expected}")
    return int(value)


def flag(experiment: Experiment, key: str, *, default: bool) -> bool:
    """Return an option that is true or false.

    Raises:
        ExperimentError: it is neither.
    """
    value = experiment.strategy.options.get(key, default)
    if not isinstance(value, bool):
        raise ExperimentError(f"strategy.options.{key} = {value!r}: expected true or false")
    return value


def choice(experiment: Experiment, key: str, *values: Word) -> Word:
    """Return an option that is one of some words, the first where nothing is said.

    Raises:
        ExperimentError: it is none of them.
    """
    found = experiment.strategy.options.get(key, values[0])
    for value in values:
        if found == value:
            return value
    raise ExperimentError(f"strategy.options.{key} = {found!r}: expected {' or '.join(map(repr, values))}")


def check_known(experiment: Experiment, *keys: str) -> None:
    """Check that there are no other options than a strategy's: one that is misspelt would say nothing.

    Raises:
        ExperimentError: there are.
    """
    for key, value in experiment.strategy.options.items():
        if key not in keys:
            raise ExperimentError(
                f"strategy.options.{key} = {value!r}: strategy.name = {experiment.strategy.name!r} has no such option, "
                f"expected {' or '.join(keys) or 'none'}"
            )


def check_left(experiment: Experiment, key: str, expected: str | int, why: str) -> None:
    """Check that a setting is left as the strategy needs it.

    Args:
        experiment: whose.
        key: of the setting, as server.optimizer.
        expected: its value.
        why: what is so with the strategy that no other makes sense.

    Raises:
        ExperimentError: it has another one.
    """
    if (value := attrgetter(key)(experiment)) != expected:
        name = experiment.strategy.name
        raise ExperimentError(f"{key} = {value!r}: with strategy.name = {name!r} {why}: expected {expected!r}")
