"""What strategies with a client's half of their own refuse of an experiment, in one line each."""

from typing import Any

import pytest
from torch import nn

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.table import TensorTable
from tests.support.playing import create


def test_scaffold_has_nothing_of_a_clients_own_to_correct() -> None:
    table = TensorTable.of(nn.Linear(2, 2))
    create("scaffold").check(table)
    with pytest.raises(ExperimentError, match=r"strategy.personal: 'bias' would be each client's own"):
        create("scaffold", personal=["b*"]).check(table)


@pytest.mark.parametrize(
    ("name", "options", "refusal"),
    [
        ("ditto", {"lambda": -0.5}, "strategy.options.lambda = -0.5: expected a finite number not below 0"),
        ("ditto", {"lambda": "much"}, "strategy.options.lambda = 'much': expected a finite number not below 0"),
        ("ditto", {"lambda": True}, "strategy.options.lambda = True: expected a finite number not below 0"),
        ("apfl", {"alpha": 1.5}, "strategy.options.alpha = 1.5: expected a finite number of 0 to 1"),
        ("apfl", {"adaptive": 1}, "strategy.options.adaptive = 1: expected true or false"),
        ("ditto", {"pull": 1.0}, "strategy.options.pull = 1.0: strategy.name = 'ditto' has no such option"),
    ],
)
def test_an_option_that_cannot_be(name: str, options: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ExperimentError) as refused:
        create(name, options=options)
    assert refusal in str(refused.value)
