"""A worker's work at its peak, beside what `common.memory.need` counts: `python -m benchmarks.workermemory`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.peakmemory import extra_memory, settle_memory
from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.client.work.labelledprobe import LabelledProbe
from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment, validate
from lotteryfl.common.memory.need import worker_need
from lotteryfl.common.models import create_model
from lotteryfl.common.models.mlp import image_mlp
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.tasks import ClientData
from lotteryfl.common.tensors.file import parse
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.training.score import ACCURACY
from lotteryfl.common.wire.format import WireFormat
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb

CPU = torch.device("cpu")

IMAGES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "momentum": 0.0},
    "sgd with momentum": {"optimizer": "sgd", "momentum": 0.9},
    "adam": {"optimizer": "adam", "lr": 1e-3},
}


@dataclass(frozen=True)
class Case:
    """Two assignments, one after the other."""

    dataset: str
    model: str
    optimizer: str
    prunes: bool = True
    dp_sgd: bool = False
    test_examples: int = 256

    @property
    def name(self) -> str:
        """What people see."""
        how = "DP-SGD" if self.dp_sgd else "pruned" if self.prunes else "dense"
        return f"{self.model}, {how}, {self.optimizer}"

    def build(self) -> nn.Module:
        """Build the model."""
        if self.model == "two layers of 4,096":
            return image_mlp((4096, 4096), 1, 28, 10)
        return create_model(self.dataset, self.model)

    def experiment(self) -> Experiment:
        """Return how it is trained."""
        training = {"epochs": 1, "batch_size": 8, **OPTIMIZERS[self.optimizer]}
        private = {"dp_sgd": True, "max_grad_norm": 1.0, "noise_multiplier": 1.0} if self.dp_sgd else {}
        return validate({"task": {"name": "drawn.py"}, "training": training, "privacy": private}, "benchmark")


CASES = (
    Case("mnist", "cnn", "sgd with momentum"),
    Case("languages", "transformer", "adam", prunes=False),
    Case("mnist", "mlp", "sgd with momentum"),
    Case("mnist", "mlp", "sgd with momentum", prunes=False, dp_sgd=True),
    Case("cifar10", "resnet18", "sgd with momentum", prunes=False),
    Case("cifar10", "resnet18", "sgd with momentum"),
    Case("cifar10", "resnet18", "adam"),
    Case("mnist", "two layers of 4,096", "sgd", prunes=False),
    Case("mnist", "two layers of 4,096", "sgd with momentum"),
    Case("mnist", "two layers of 4,096", "adam"),
)


class Drawn:
    """A task of examples drawn at random."""

    name = "drawn"
    objective = None
    score = ACCURACY

    def __init__(self, case: Case) -> None:
        self._case = case

    def model(self) -> nn.Module:
        """Build the model."""
        return self._case.build()

    def client_data(self, client: int) -> ClientData:
        """Return 64 training, 32 validation and the case's test examples."""
        generator = torch.Generator().manual_seed(client)
        return ClientData(*(self._drawn(size, generator) for size in (64, 32, self._case.test_examples)))

    def global_test(self, examples: int) -> Dataset[Any]:
        """Say that there are none."""
        raise TaskError(f"{examples} global test examples wanted, and there are none")

    def _drawn(self, size: int, generator: torch.Generator) -> TensorDataset:
        labels = torch.randint(0, 8, (size,), generator=generator)
        if self._case.dataset == "languages":
            return TensorDataset(torch.randint(0, 16, (size, 32), generator=generator), labels)
        return TensorDataset(torch.randn(size, *IMAGES[self._case.dataset], generator=generator), labels)


def counted(case: Case) -> int:
    """Return the bytes that are counted beforehand."""
    task, model, experiment = Drawn(case), case.build(), case.experiment()
    probe = LabelledProbe(task.name, model, CPU, experiment.evaluation.batch_size)
    activations = probe.look(0, task.client_data(0), None)
    return worker_need(TensorTable.of(model), experiment, activations=activations).host.nbytes


def prepare(case: Case) -> Callable[[], object]:
    """Load and use what is there in every process; return the work."""
    if case.dp_sgd:
        from opacus import grad_sample, optimizers, validators  # noqa: F401
    torch.set_num_threads(1)
    small = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 8))
    small(torch.randn(2, 1, 8, 8)).sum().backward()
    torch.optim.Adam(small.parameters()).step()
    return partial(_work, case)


def _work(case: Case) -> None:
    model = case.build()
    table = TensorTable.of(model)
    initial, shared = (_received(model) for _ in range(2))
    del model
    settle_memory()
    runner = AssignmentRunner(Drawn(case), case.experiment(), table, initial, CPU)
    plan = pb.Plan(train=pb.Plan.Train(epochs=1))
    if case.prunes:
        plan.prune.CopyFrom(pb.Plan.Prune(rate=0.3, target_density=0.1, accuracy_threshold=0.0))
        plan.rewind = pb.Plan.INITIAL
    for client in range(2):
        assignment = pb.Assignment(assignment_id=f"r1-c{client}-a1", round=1, client=client, seed=5, plan=plan)
        runner.run(assignment, WireFormat(table, "float32").pack(shared, {}), {})


def _received(model: nn.Module) -> dict[str, Tensor]:
    return parse(bytearray().join(TensorStream(named_tensors(model))), "model")


def main() -> None:
    """Print the table."""
    rows = []
    for case in CASES:
        measured, expected = extra_memory(partial(prepare, case)), counted(case)
        rows.append((case.name, measured / 1e6, expected / 1e6, expected / measured))
    print(tabulate(rows, ("", "measured, MB", "counted, MB", "ratio"), "github", floatfmt=("", ".1f", ".1f", ".2f")))


if __name__ == "__main__":
    main()
