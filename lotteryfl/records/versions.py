"""What decides the bits of a run beside its experiment: versions, the kind of machine, the strategy's code."""

import hashlib
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.records.record import Made
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.base import Strategy


def made_here() -> Made:
    """Return versions and the kind of this machine; nothing that tells which one it is."""
    return Made(
        lotteryfl=version("lotteryfl"),
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=version("numpy"),
        system=platform.system(),
        machine=platform.machine(),
        cpu=torch.backends.cpu.get_cpu_capability(),
    )


def strategy_sha256(name: str) -> str:
    """Return the SHA-256 of the files of a strategy's class and of those that it is made from, but for their base.

    Raises:
        LotteryFLError: there is no strategy of that name here.
    """
    if name not in STRATEGIES:
        raise LotteryFLError(f"strategy.name = {name!r}: is not here: name its file with --strategy")
    classes = [each for each in STRATEGIES[name].__mro__ if issubclass(each, Strategy) and each is not Strategy]
    whole = hashlib.sha256()
    for module in sorted({each.__module__ for each in classes}):
        whole.update(Path(str(sys.modules[module].__file__)).read_bytes())
    return whole.hexdigest()
