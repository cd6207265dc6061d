"""One assignment of a tiny task, followed by a local algorithm of the test's."""

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lotteryfl.client.local.algorithm import LocalAlgorithm
from lotteryfl.client.local.files import LocalCode
from lotteryfl.client.work.planrun import Done, PlanRun
from lotteryfl.client.work.stack import alone
from lotteryfl.client.work.workplace import Workplace
from lotteryfl.common import packedmasks
from lotteryfl.common.owncode.sourceversion import SourceVersion
from lotteryfl.common.pruning.parameters import named_tensors
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.training.loop import train
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.bench import CPU, TinyTask, tiny_experiment, tiny_mlp

TRAINING: dict[str, Any] = {"lr": 0.25, "momentum": 0.5, "weight_decay": 0.125, "batch_size": 4}
SEED = 5
DATA = TinyTask().client_data(2)
"""Ten examples: three steps in an epoch."""


def started() -> nn.Module:
    torch.manual_seed(1)
    return tiny_mlp()


def trained(epochs: int, **options: Any) -> dict[str, Tensor]:
    """What plain training of the same model comes to."""
    model = started()
    train(model, DATA.train, epochs=epochs, seed=SEED, **{**TRAINING, **options})
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def as_code(algorithm: type[LocalAlgorithm]) -> LocalCode:
    return LocalCode(algorithm, SourceVersion(), str(sys.modules[algorithm.__module__].__file__))


class Followed:
    """A plan followed by a local algorithm."""

    def __init__(
        self,
        algorithm: type[LocalAlgorithm],
        plan: pb.Plan | None = None,
        *,
        masks: dict[str, Tensor] | None = None,
        tensors: dict[str, Tensor] | None = None,
        **training: Any,
    ) -> None:
        model = started()
        self.start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        torch.manual_seed(0)
        initial = named_tensors(tiny_mlp())
        experiment = tiny_experiment(training={**TRAINING, **training})
        self.workplace = Workplace(model, TensorTable.of(model), experiment, initial, CPU)
        self.workplace.tensors = tensors or {}
        packed = {name: packedmasks.pack(mask) for name, mask in (masks or {}).items()}
        self.workplace.prune(packed)
        self.workplace.zero_pruned()
        self.progress: list[tuple[int, int]] = []
        plan = plan or pb.Plan(train=pb.Plan.Train(epochs=2))
        plan.local.name = algorithm.name
        assignment = pb.Assignment(assignment_id="r1-c2-a1", round=1, client=2, seed=SEED, plan=plan)
        run = PlanRun(self.workplace, assignment, DATA, packed, as_code(algorithm), self._note)
        self.downloaded = run.downloaded()
        self.done: Done = alone(run.follow(), lambda wanted: wanted.alone(self._note))

    def _note(self, epoch: int, step: int, loss: Tensor) -> None:
        self.progress.append((epoch, step))

    @property
    def tensors(self) -> dict[str, Tensor]:
        return named_tensors(self.workplace.model)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def by_hand(*trains: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = started()
    chosen = [each for name, each in model.named_parameters() if not trains or name.startswith(trains)]
    return model, fresh(chosen)


def fresh(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        list(parameters), lr=TRAINING["lr"], momentum=TRAINING["momentum"], weight_decay=TRAINING["weight_decay"]
    )


def batches(seed: int) -> list[tuple[Tensor, Tensor]]:
    """The batches of one epoch, as a training from this seed has them."""
    assert isinstance(DATA.train, TensorDataset)
    inputs, labels = DATA.train.tensors
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(derive_seed(seed, "shuffle")))
    return [(inputs[chosen], labels[chosen]) for chosen in order.split(4)]
