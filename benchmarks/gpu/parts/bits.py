"""The same bits with 1 and 3 workers, after a kill, and when all is done again."""

import multiprocessing as mp
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import lotteryfl
from benchmarks.gpu.row import Row, check, same
from benchmarks.gpu.runs import TASK, Setting, bits, experiment, simulated, worked
from lotteryfl.common.experiment.experiment import Experiment, load
from lotteryfl.protos import lotteryfl_pb2 as pb

SECONDS = 130.0

_DIGITS = Path(__file__).parents[3] / "examples/digits.toml"
_APART = 0.1
"""Most that mean accuracies may be apart on two kinds of device."""


def rows(setting: Setting) -> Iterator[Row]:
    """Compare digests of models and tickets; of the CPU's run, which has other bits, accuracies."""
    digits, many = load(_DIGITS, [f"rounds={2 if setting.quick else 6}"]), 2 if setting.quick else 3
    one = worked(setting, digits, 1, ())
    yield same(f"digits: 1 and {many} workers", bits(one), bits(worked(setting, digits, many, ())))
    yield same("digits: killed in the second round, then one process", bits(one), _killed(setting, digits))
    here = simulated(Setting("cpu", setting.quick), digits, ())["accuracy"]["personalised_last"]
    there = one["accuracy"]["personalised_last"]
    yield check("digits: accuracy as on the CPU", abs(here - there) <= _APART, f"{there:.3f} and {here:.3f}")
    images = experiment("cnn" if setting.quick else "resnet18", 20 if setting.quick else 200, rounds=2)
    again = simulated(setting, images)
    yield same("convolutions: done twice in one process", bits(again), bits(simulated(setting, images)))
    if not setting.quick:
        yield same("convolutions: one process and 2 workers", bits(again), bits(worked(setting, images, 2)))


def _killed(setting: Setting, of: Experiment) -> str:
    """Return the bits of a run whose process was killed, and which others took up."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        process = mp.get_context("spawn").Process(target=_run_until_killed, args=(setting.device, of, path))
        process.start()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            return f"not killed: exit code {process.exitcode}"
        with lotteryfl.simulate(of, path, device=setting.device) as view:
            return bits(view.summary())


def _run_until_killed(device: str, of: Experiment, path: Path) -> None:
    def kill(status: pb.RunStatus) -> None:
        if status.round >= 1 and status.results:
            os.kill(os.getpid(), signal.SIGKILL)

    lotteryfl.simulate(of, path, device=device, tasks=(TASK,), show=kill)
