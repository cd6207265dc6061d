"""Which devices `--device` may name."""

import pytest
import torch

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.running.device import choose_device


def test_the_cpu_is_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("text", ["meta", "cpu,", "", "cuda:99", "tpu"])
def test_a_device_that_nothing_can_be_computed_on_is_named(text: str) -> None:
    with pytest.raises(LotteryFLError, match=rf"^--device {text}: cannot be used here: .+$"):
        choose_device(text)
