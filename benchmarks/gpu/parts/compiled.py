"""`training.compile`: a run that compiles its model, done twice. Most of it is waiting for the compiler."""

from collections.abc import Iterator

import torch

from benchmarks.gpu.row import Row, check, same
from benchmarks.gpu.runs import Setting, bits, experiment, simulated
from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.common.training.precision import check_compiler
from lotteryfl.common.training.recipe import TrainingSettings

SECONDS = 100.0


def rows(setting: Setting) -> Iterator[Row]:
    """Compare the bits of two runs."""
    if setting.quick:
        yield Row("compile: twice the same bits", "not run: in small nothing is compiled")
        return
    try:
        check_compiler(TrainingSettings(compile=True), torch.device(setting.device))
    except ExperimentError as error:
        yield Row("compile: refused in one line, as torch cannot compile here", str(error), "\n" not in str(error))
        return
    of = experiment("cnn", 100, rounds=1, training={"compile": True})
    try:
        yield same("compile: twice the same bits", bits(simulated(setting, of)), bits(simulated(setting, of)))
    except LotteryFLError as error:
        yield check("compile: twice the same bits", False, str(error))
