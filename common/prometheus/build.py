"""What is said of every process: which program it is."""

from importlib.metadata import version

import torch

from lotteryfl.common.prometheus.described import Described, Numbers

BUILD = Described("lotteryfl_build_info", "gauge", "now", "1; the version of lotteryfl and of torch are its labels.")

_VERSION = version("lotteryfl")


def put_build(numbers: Numbers) -> None:
    """Say which versions the process is of."""
    numbers.put_info(BUILD.name, version=_VERSION, torch=torch.__version__)
