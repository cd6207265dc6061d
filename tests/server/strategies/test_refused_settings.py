"""What strategies with a client's half of their own refuse of an experiment, in one line each."""

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
