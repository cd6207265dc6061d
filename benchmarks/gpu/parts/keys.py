"""Keys of the recipe and options of a worker, each in a run of its own: it runs, twice with the same bits."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.gpu.row import Row, check, same
from benchmarks.gpu.runs import TASK, Setting, bits, experiment, simulated
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks import load_task
from lotteryfl.common.tensors.file import open_file
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.setup import create_run

SECONDS = 70.0

QUICK = ("bfloat16 and channels_last", "everything in a step", "feddst")
RUNS: dict[str, dict[str, Any]] = {
    "bfloat16": {"training": {"precision": "bfloat16"}},
    "channels_last": {"training": {"channels_last": True}},
    "bfloat16 and channels_last": {"training": {"precision": "bfloat16", "channels_last": True}},
    "RMSprop": {"training": {"optimizer": "RMSprop", "lr": 0.001}},
    "everything in a step": {
        "training": {"accumulate": 2, "clip_grad_norm": 1.0, "ema": 0.9, "augment": ["crop", "flip", "erase"]}
    },
    "feddst": {"strategy": {"name": "feddst", "readjust_every": 1}},
    "ssfl": {"strategy": {"name": "ssfl"}},
}


def rows(setting: Setting) -> Iterator[Row]:
    """Run them one after the other."""
    architecture, examples = ("cnn", 20) if setting.quick else ("resnet18", 100)
    for name in QUICK if setting.quick else RUNS:
        of = experiment(architecture, examples, rounds=2, **RUNS[name])
        yield same(f"{name}: twice the same bits", bits(simulated(setting, of)), bits(simulated(setting, of)))
    yield from _kept(setting, experiment(architecture, examples, rounds=1))


@dataclass(frozen=True)
class Kept:
    """What came of assignments of a client, one after the other, on one worker."""

    bits: str
    nbytes: int
    """That it keeps."""


def _kept(setting: Setting, of: Experiment) -> Iterator[Row]:
    """Work with nothing kept, with a bound, and with what a worker keeps by itself."""
    nothing, bounded, unasked = (_worked(setting, of, keep) for keep in (0, 1 << 30, None))
    yield same("data kept within a bound: the bits of data that is not", nothing.bits, bounded.bits)
    yield same("data kept unasked: the bits of data that is not", nothing.bits, unasked.bits)
    has_memory = torch.device(setting.device).type == "cuda"
    holds = nothing.nbytes == 0 and bounded.nbytes > 0 and bool(unasked.nbytes) is has_memory
    yield check("data is kept", holds, f"{nothing.nbytes}, {bounded.nbytes} and {unasked.nbytes} bytes")


def _worked(setting: Setting, of: Experiment, keep: int | None) -> Kept:
    task = load_task(of, (TASK,))
    with TemporaryDirectory() as folder, create_run(Path(folder) / "run", of, (TASK,)) as run:
        initial = open_file(run.model_path(0))
        runner = AssignmentRunner(task, of, run.model_table, initial, torch.device(setting.device), keep_data=keep)
        base = {spec.name: initial[spec.name] for spec in run.table}
        plan = pb.Plan(train=pb.Plan.Train(epochs=1))
        digests = []
        for seed in (1, 2):
            assignment = pb.Assignment(assignment_id=f"r1-c0-a{seed}", round=1, client=0, seed=seed, plan=plan)
            outcome = runner.run(assignment, {}, {}, base=base)
            sums = [outcome.metrics.train_loss, *(float(t.double().sum()) for t in outcome.entries.values())]
            digests.append(sha256(repr(sums).encode()).hexdigest())
        return Kept(" ".join(digests), runner._data.nbytes)
