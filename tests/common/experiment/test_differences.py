"""Where experiments differ: the first key, as people find it in the file."""

from typing import Any

import pytest

from lotteryfl.common.experiment.differences import first_bound_difference, first_difference
from lotteryfl.common.experiment.experiment import Experiment, from_record, to_record, validate

FULL: dict[str, Any] = {
    "seed": 3,
    "task": {"name": "/home/me/tasks/eyes.py", "data_dir": "/data"},
    "strategy": {"preset": "paper", "options": {"from_round": 1}},
    "access": {"workers": {"clinic": "0-9"}},
}


def experiment(**changes: Any) -> Experiment:
    table = dict(FULL)
    for key, value in changes.items():
        table[key] = table.get(key, {}) | value if isinstance(value, dict) else value
    return validate(table, "test")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rounds": 31}, "rounds = 31, expected 30"),
        ({"training": {"lr": 0.05}, "wire_dtype": "int8"}, "wire_dtype = 'int8', expected 'float32'"),
        ({"strategy": {"options": {"from_round": 2}}}, "strategy.options.from_round = 2, expected 1"),
        ({"strategy": {"options": {"from_round": True}}}, "strategy.options.from_round = True, expected 1"),
        ({"strategy": {"options": {"from_round": 1, "x": "y"}}}, "strategy.options.x = 'y', expected nothing"),
        ({"strategy": {"options": {}}}, "strategy.options.from_round = nothing, expected 1"),
        ({"checks": {"max_examples": 5}}, "checks.max_examples = 5, expected 1099511627776"),
        ({"task": {"name": "/home/me/tasks/ears.py"}}, "task.name = 'ears', expected 'eyes'"),
    ],
)
def test_the_first_key_that_differs_is_named_with_both_values(changes: dict[str, Any], told: str) -> None:
    assert str(first_bound_difference(experiment(**changes), experiment())) == told
    assert first_difference(experiment(**changes), experiment()) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"task": {"name": "/elsewhere/eyes.py"}},
        {"task": {"name": "C:\\tasks\\eyes.py"}},
        {"task": {"name": "our.tasks.eyes"}},
        {"task": {"data_dir": "/mnt"}},
        {"checks": {"max_refusals": 9}},
        {"access": {"workers": {"other": "1"}}},
    ],
)
def test_what_is_the_operators_to_change_is_no_difference_in_a_run(changes: dict[str, Any]) -> None:
    assert first_bound_difference(experiment(**changes), experiment()) is None
    assert (first_difference(experiment(**changes), experiment()) is None) == (not changes)


def test_a_record_has_what_binds_and_what_it_lacks_is_at_its_default() -> None:
    assert first_bound_difference(from_record(to_record(experiment()), "record"), experiment()) is None
    assert "clinic" not in to_record(experiment())
    assert first_bound_difference(from_record('{"rounds": 3}', "record"), validate({"rounds": 3}, "test")) is None
