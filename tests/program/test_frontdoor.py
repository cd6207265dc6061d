import subprocess
import sys
from types import ModuleType

import pytest

import lotteryfl
from lotteryfl.common.training.loop import train


def test_the_front_door_opens_on_first_use() -> None:
    code = "import sys, lotteryfl; assert 'torch' not in sys.modules; lotteryfl.train; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_front_door_leads_to_every_function() -> None:
    modules = {name for name in lotteryfl.__all__ if isinstance(getattr(lotteryfl, name), ModuleType)}
    assert modules == {"objectives"}
    assert all(callable(getattr(lotteryfl, name)) for name in set(lotteryfl.__all__) - modules)
    assert set(lotteryfl.__all__) <= set(dir(lotteryfl))
    assert lotteryfl.train is train
    with pytest.raises(AttributeError, match=r"^module 'lotteryfl' has no attribute 'prune'$"):
        _ = lotteryfl.prune
